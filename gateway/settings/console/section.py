"""The section `console`: the process that serves the web pages, sign-in and its secrets."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.console.services import Mail, Oidc
from gateway.settings.types import EnvName, Network, Port, Section, Text


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
    signup: Annotated[
        Literal["closed", "invite", "code", "open"],
        Meta(
            description="Who may create a user. `invite`: by a link from an owner or operator."
            " `code`: also with an unused redemption code, which is redeemed into their new"
            " account. `open`: also without one. `closed`: not at all; invitations then only let"
            " existing users join an account.",
        ),
    ] = "invite"
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
            description="A mail server for links: invitations, sign-up, sign-in and new passwords."
            " Without it, links are shown to those who made them, to pass on.",
        ),
    ] = None
    trusted_proxies: Annotated[
        list[Network],
        Meta(
            description="Further proxies, in front of the pages only; those of"
            " `server.trusted_proxies` are trusted here, too. Their `x-forwarded-for` and"
            " `x-forwarded-proto` name the client of a page; from others they are ignored.",
        ),
    ] = []
