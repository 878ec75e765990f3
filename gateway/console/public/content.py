"""What public pages show of one state of the settings."""

from __future__ import annotations

import functools

from gateway.console.library.library import Library
from gateway.console.library.site import site_of
from gateway.console.public.kept import KeptPages
from gateway.settings import Settings


class PublicContent:
    """
    The documentation and the cached pages; replaced when the settings are read again.

    Args:
        settings: Of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.kept = KeptPages()

    @functools.cached_property
    def library(self) -> Library:
        """The documentation, built when it is first needed: 0.2 s."""
        return Library(site_of(self._settings))

    def warm(self) -> None:
        """Render all pages of the documentation, in a thread of its own."""
        for page in self.library.pages.values():
            _ = page.rendered
