"""Reads the credentials of providers in SQL; a missing one concerns its provider only."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.settings.schema import Provider
from gateway.settings.secrets import ReadText, provider_credentials, secret_reader


class StoredCredentials:
    """
    The credentials of the providers that were checked.

    Args:
        environ: The environment.
        read: Reads a file.
    """

    def __init__(self, environ: Mapping[str, str], read: ReadText) -> None:
        self._environ = environ
        self._read = read
        self.found: dict[str, tuple[str, ...]] = {}

    def check(self, provider: Provider, path: str) -> list[str]:
        """Return a line for each credential that is missing; keep the others."""
        errors: list[str] = []
        fetch = secret_reader(self._environ, self._read, errors)
        values = provider_credentials(provider, path, fetch, errors)
        if values and not errors:
            self.found[provider.name] = values
        return errors
