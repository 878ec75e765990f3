"""What public pages show of one state of the settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from gateway.console.library.library import DocPage, Library
from gateway.console.library.site import Site, site_of
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
    def site(self) -> Site:
        """The service, as pages describe it."""
        return site_of(self._settings)

    @functools.cached_property
    def library(self) -> Library:
        """The documentation, built when it is first needed."""
        return Library(self.site)

    def renderings(self) -> Iterator[Callable[[], object]]:
        """Yield what prepares all pages of the documentation: each step takes some 10 ms."""
        yield self._load
        for page in self.library.pages.values():
            yield functools.partial(_render, page)

    def _load(self) -> None:
        _ = self.library.pages


def _render(page: DocPage) -> None:
    _ = page.rendered
