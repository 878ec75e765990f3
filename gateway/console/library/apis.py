"""The OpenAPI documents of a service's two APIs, and the pages of their references."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.console.library.reference import Reference
from gateway.console.library.site import Site
from gateway.console.library.sources import Source
from gateway.console.openapi.clients import clients_api
from gateway.console.openapi.document import openapi
from gateway.console.openapi.operators import operators_api

CLIENTS_DOCUMENT: Final = "/openapi.json"
OPERATORS_DOCUMENT: Final = "/openapi-admin.json"


class Apis:
    """
    The API for clients and that for operators.

    Args:
        site: The service.
    """

    def __init__(self, site: Site) -> None:
        brand = site.settings.brand.name
        model = site.example_model()
        self._key_variable = site.key_variable
        self._clients = clients_api(site.base_url, model, brand)
        self._operators = operators_api(site.base_url, model, brand)

    def documents(self) -> dict[str, bytes]:
        """Return the OpenAPI documents by path."""
        return {
            CLIENTS_DOCUMENT: msgspec.json.encode(openapi(self._clients)),
            OPERATORS_DOCUMENT: msgspec.json.encode(openapi(self._operators)),
        }

    def sources(self) -> list[Source]:
        """Return the pages of both references."""
        references = (
            Reference(self._clients, "api", "API", self._key_variable, CLIENTS_DOCUMENT),
            Reference(self._operators, "admin-api", "Admin API", "ADMIN_TOKEN", OPERATORS_DOCUMENT),
        )
        return [source for reference in references for source in reference.sources()]
