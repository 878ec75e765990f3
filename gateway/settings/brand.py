"""The section `brand`: the names under which the service presents itself."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.settings.types import Section, Text


class Brand(Section, frozen=True):
    """The names under which the service presents itself."""

    name: Annotated[Text, Meta(description="Name shown on pages and in documents.")] = "Capio"
    model_prefix: Annotated[
        str,
        Meta(
            pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,31}/)?\Z",
            description="Optional prefix of model names in requests, removed before the lookup.",
            extra={"allowed": 'a short name with a slash at its end like "capio/", or ""'},
        ),
    ] = "capio/"
    key_prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,30}[_-]\Z",
            description="Prefix of API keys. It distinguishes them from other vendors' keys. Keys"
            " created under another prefix are no longer accepted.",
            extra={"allowed": 'a short name that ends in - or _ like "sk-capio-live-"'},
        ),
    ] = "sk-capio-live-"
    public_url: Annotated[
        Text, Meta(description="Base URL that clients use, shown on pages and in documents.")
    ] = "http://127.0.0.1:8080"
