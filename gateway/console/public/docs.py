"""`/docs`: the documentation for people, its Markdown twins, and the documents for programs."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.library.library import DocPage
from gateway.console.library.sources import ROOT
from gateway.console.public.kept import page_response, text_response
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access

MARKDOWN = "text/markdown; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
XML = "application/xml"
SEARCH = f"{ROOT}/search.json"
_PRIVATE = ("/app", "/admin-ui", "/enter", "/setup")


async def show(page: Page) -> Response:
    """Respond with a page, or with its twin if the path or `accept` asks for Markdown."""
    found = find(page, page.path.removesuffix(".md"))
    if page.path.endswith(".md") or _wants_markdown(page):
        return text_response(page, MARKDOWN, lambda: found.markdown)
    return page_response(page, "public/doc.html", lambda: _doc_values(page, found))


def _doc_values(page: Page, found: DocPage) -> dict[str, Any]:
    library = page.services.public.library
    before, after = library.neighbours(found)
    return {
        "doc": found,
        "sections": library.sections(),
        "outline": [each for each in found.rendered.headings if each.level in _OUTLINED],
        "before": before,
        "after": after,
    }


_OUTLINED = (2, 3)


def find(page: Page, path: str) -> DocPage:
    """Return the page at a path of the documentation; raises HTTPException."""
    found = page.services.public.library.find(path)
    if found is None:
        raise HTTPException(404)
    return found


def _wants_markdown(page: Page) -> bool:
    return page.request.headers.get("accept", "").startswith("text/markdown")


async def search(page: Page) -> Response:
    """Respond with the index that the search of the documentation reads."""
    index = page.services.public.library.search_index
    return text_response(page, JSON, lambda: msgspec.json.encode(index()))


async def llms(page: Page) -> Response:
    return text_response(page, MARKDOWN, page.services.public.library.llms)


async def llms_full(page: Page) -> Response:
    return text_response(page, MARKDOWN, page.services.public.library.llms_full)


async def sitemap(page: Page) -> Response:
    library = page.services.public.library
    others = ["/", "/models", "/status", "/privacy"]
    others += [f"/models/{model.name}" for model in library.site.models]
    return text_response(page, XML, lambda: library.sitemap(others))


async def robots(page: Page) -> Response:
    base_url = page.services.public.site.base_url
    rules = "".join(f"Disallow: {path}\n" for path in _PRIVATE)
    return text_response(
        page, TEXT, lambda: f"User-agent: *\n{rules}\nSitemap: {base_url}/sitemap.xml\n"
    )


async def openapi(page: Page) -> Response:
    library = page.services.public.library
    return text_response(page, JSON, lambda: library.documents[page.path])


ROUTES = (
    Route("GET", SEARCH, Access.PUBLIC, search),
    Route("GET", ROOT, Access.PUBLIC, show),
    Route("GET", f"{ROOT}.md", Access.PUBLIC, show),
    Route("GET", f"{ROOT}/{{name:path}}", Access.PUBLIC, show),
    Route("GET", "/llms.txt", Access.PUBLIC, llms),
    Route("GET", "/llms-full.txt", Access.PUBLIC, llms_full),
    Route("GET", "/sitemap.xml", Access.PUBLIC, sitemap),
    Route("GET", "/robots.txt", Access.PUBLIC, robots),
    Route("GET", "/openapi.json", Access.PUBLIC, openapi),
    Route("GET", "/openapi-admin.json", Access.PUBLIC, openapi),
)
