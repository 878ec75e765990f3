"""Services outside of the gateway that the pages use: an OpenID provider, and a mail server."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.types import EnvName, Port, Section, Text


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
    """A mail server with which the pages send links."""

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
