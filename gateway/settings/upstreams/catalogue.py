"""The section `catalogue`: providers and models in SQL beside those of the file."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.settings.types import Section, Text


class CatalogueInSql(Section, frozen=True):
    """
    Providers and models in SQL, which operators change while the gateway runs, see
    [The catalogue in SQL](operations.md#the-catalogue-in-sql).
    """

    sql: Annotated[
        bool,
        Meta(
            description="Serve the providers and models in SQL beside those of the file. If false,"
            " they are ignored and cannot be changed.",
        ),
    ] = True
    sql_only: Annotated[
        bool,
        Meta(
            description="All providers and models are in SQL: the file has none. Without this"
            " setting it needs one of each, so that a truncated file is not taken for an empty"
            " one.",
        ),
    ] = False
    credential_env: Annotated[
        list[Text],
        Meta(
            description="Environment variables that providers in SQL may name, `*` stands for any"
            " characters. Variables of other settings are never allowed; those of the file's"
            " providers are for the hosts of these providers only.",
        ),
    ] = msgspec.field(default_factory=lambda: ["*_API_KEY"])
    credential_dirs: Annotated[
        list[Text],
        Meta(
            description='Directories whose files providers in SQL may name, as `["/run/keys"]`.',
        ),
    ] = []
