"""
A cache of rendered public pages, by theme and language, with entity tags.

A page depends on the settings only, so it is cached until they are read again. Pages for signed-in
users are not cached.
"""

from __future__ import annotations

import gzip
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.console.web.page import Page

MOST_KEPT: Final = 512
CACHE_CONTROL: Final = "no-cache"
"""Browsers revalidate each page, so that they never show old prices."""
_LEVEL: Final = 6
_SMALLEST: Final = 512
_ETAG_LENGTH: Final = 16


class Kept(msgspec.Struct, frozen=True):
    """One response, ready to send."""

    content: bytes
    compressed: bytes
    etag: str
    media_type: str


class KeptPages:
    """The cached pages of one state of the settings; evicts the least recently used."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], Kept] = OrderedDict()

    def get(self, key: tuple[str, ...], make: Callable[[], tuple[bytes, str]]) -> Kept:
        """Return the cached response of a key; on a miss, `make` returns its bytes and type."""
        found = self._kept.get(key)
        if found is None:
            content, media_type = make()
            packed = gzip.compress(content, _LEVEL, mtime=0)
            found = self._kept[key] = Kept(content, packed, etag(content), media_type)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return found


def etag(content: bytes) -> str:
    """Return a strong entity tag."""
    return f'"{hashlib.sha256(content).hexdigest()[:_ETAG_LENGTH]}"'


def page_response(
    page: Page, template: str, values: Callable[[], Mapping[str, Any]], *, variant: str = ""
) -> Response:
    """
    Return a page of HTML, cached if no one is signed in and the URL has no query.

    Args:
        page: The request.
        template: Its template.
        values: Returns the template's variables; not called if the page is cached.
        variant: What the page shows besides the settings, such as the current status.
    """
    if page.maybe_viewer is not None or page.request.scope["query_string"]:
        return page.render(template, **values())

    def make() -> tuple[bytes, str]:
        return bytes(page.render(template, **values()).body), "text/html; charset=utf-8"

    key = (page.path, page.theme, page.language, variant, page.services.banners.version)
    kept = page.services.public.kept.get(key, make)
    return _respond(page.request, kept, "cookie, accept, accept-language, accept-encoding")


def text_response(page: Page, media_type: str, make: Callable[[], str | bytes]) -> Response:
    """Return a cached document for programs."""

    def encoded() -> tuple[bytes, str]:
        made = make()
        return made.encode() if isinstance(made, str) else made, media_type

    kept = page.services.public.kept.get((page.path, media_type), encoded)
    return _respond(page.request, kept, "accept, accept-encoding")


def _respond(request: Request, kept: Kept, vary: str) -> Response:
    headers = {"etag": kept.etag, "cache-control": CACHE_CONTROL, "vary": vary}
    if kept.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    content = kept.content
    if "gzip" in request.headers.get("accept-encoding", "") and len(content) > _SMALLEST:
        content = kept.compressed
        headers["content-encoding"] = "gzip"
    return Response(content, headers=headers, media_type=kept.media_type)
