"""The section about the pages for people: the address and the resources of their process."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.types import EnvName, Port, Section, Text

Network = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?\Z",
        extra={"allowed": 'an IP address or a network like "10.0.0.0/8"'},
    ),
]


class Oidc(Section, frozen=True):
    """An OpenID provider with which people sign in."""

    issuer: Annotated[
        Text,
        Meta(
            description="Its issuer, a URL; `/.well-known/openid-configuration` below it describes"
            " the provider. It redirects browsers to `/sign-in/oidc/callback` at"
            " `brand.public_url`, which must be registered there.",
        ),
    ]
    client_id: Annotated[Text, Meta(description="The id under which the pages are registered.")]
    client_secret_env: Annotated[
        EnvName | None,
        Meta(
            description="Environment variable that holds the client's secret. Without it and"
            " `client_secret_file` the pages are a public client.",
        ),
    ] = None
    client_secret_file: Annotated[
        Text | None, Meta(description="File that holds the client's secret.")
    ] = None
    name: Annotated[Text, Meta(description="Name of the provider on buttons.")] = "single sign-on"
    operator_group: Annotated[
        Text | None,
        Meta(
            description="Members of this group, by the `groups` claim of the ID token, are"
            " operators; who signs in with the provider and is not a member is none.",
        ),
    ] = None


class Mail(Section, frozen=True):
    """A mail server with which the pages send invitations."""

    host: Annotated[Text, Meta(description="Name or address of the SMTP server.")]
    sender: Annotated[
        str,
        Meta(
            pattern=r"^[^@\s<>\"]{1,64}@[A-Za-z0-9.-]{1,189}\Z",
            description="The mail address that mails are from.",
            extra={"allowed": "a mail address"},
        ),
    ]
    port: Annotated[Port, Meta(description="Its TCP port.")] = 587
    security: Annotated[
        Literal["starttls", "tls", "none"],
        Meta(
            description="`starttls`: encrypt after the greeting, as on port 587; a server that"
            " does not offer it gets no mail. `tls`: encrypt from the start, as on port 465."
            " `none` is allowed for servers on this machine only.",
        ),
    ] = "starttls"
    username: Annotated[Text | None, Meta(description="Sign in to the server with this name.")] = (
        None
    )
    password_env: Annotated[
        EnvName | None, Meta(description="Environment variable that holds the password.")
    ] = None
    password_file: Annotated[Text | None, Meta(description="File that holds the password.")] = None


class Console(Section, frozen=True):
    """The pages for people, served by a process of their own."""

    enabled: Annotated[
        bool,
        Meta(
            description="Run the pages as a child of `capio serve`. If false, `/` is plain text and"
            " all other paths outside of the API are 404; `capio console` serves the pages.",
        ),
    ] = True
    host: Annotated[
        Text,
        Meta(
            description="Address on which the process of the pages listens. Workers relay to it;"
            " a child of `capio serve` should listen on the loopback interface only.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        Port,
        Meta(description="TCP port. Must differ from `server.port` and `metrics.port`."),
    ] = 8079
    pool_size: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Maximum database connections of the pages, in addition to those of calls.",
            extra={"unit": "connections"},
        ),
    ] = 4
    session_idle_s: Annotated[
        float,
        Meta(
            ge=300,
            le=31_536_000,
            description="A session ends when it was not used for this long; an operator's after 12"
            " hours at the latest.",
        ),
    ] = 7 * 86_400.0
    session_max_s: Annotated[
        float,
        Meta(
            ge=300,
            le=31_536_000,
            description="A session ends this long after sign-in; an operator's after 7 days at the"
            " latest.",
        ),
    ] = 30 * 86_400.0
    operator_2fa: Annotated[
        bool,
        Meta(
            description="Operators reach their pages only after they have added an authenticator."
            " Not required where `brand.public_url` is a loopback address.",
        ),
    ] = True
    secret_env: Annotated[
        EnvName | None,
        Meta(
            description="Environment variable that holds the secret of the pages, at least 32"
            " characters: it encrypts the secrets of authenticators. Several consoles need the same"
            " one. Without `secret_env` and `secret_file` it is created in `server.data_dir`.",
        ),
    ] = None
    secret_file: Annotated[
        Text | None, Meta(description="File that holds the secret of the pages.")
    ] = None
    oidc: Annotated[
        Oidc | None, Meta(description="An OpenID provider with which people sign in.")
    ] = None
    mail: Annotated[
        Mail | None,
        Meta(
            description="A mail server for invitations. Without it, links are shown to whoever"
            " made them, to pass on.",
        ),
    ] = None
    trusted_proxies: Annotated[
        list[Network],
        Meta(
            description="Addresses and networks of proxies in front of the gateway. Their"
            " `x-forwarded-for` and `x-forwarded-proto` name the client of a page; from others they"
            " are ignored.",
        ),
    ] = []
