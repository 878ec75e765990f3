"""All pages of the documentation, rendered: for people, for programs, and for the search."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.console.library.site import Site
from gateway.console.library.sources import (
    ROOT,
    SECTIONS,
    Source,
    read_sources,
    without_dead_links,
)

# Markdown, its highlighting and the schemas take 0.3 s to load: pages need them only once they are
# rendered.
if TYPE_CHECKING:
    from gateway.console.library.apis import Apis
    from gateway.console.library.markdown import Rendered

_LINK: Final = re.compile(r"\]\((/docs[^)\s#]*)(#[^)\s]*)?\)")
_INFO: Final = re.compile(r"^(```\w+) .*$", re.MULTILINE)
"""Attributes of fenced blocks; only these pages understand them."""
_ALIKE: Final = ("API", "Admin API")
"""Sections whose pages all have the same headings."""


class DocPage:
    """
    One page in all its forms, each rendered at its first use.

    Args:
        source: Its Markdown.
        base_url: The service's.
    """

    def __init__(self, source: Source, base_url: str) -> None:
        self.path = source.path
        self.title = source.title
        self.description = source.description
        self.section = source.section
        self._source = source
        self._base_url = base_url

    @functools.cached_property
    def _body(self) -> str:
        return without_dead_links(self._source.text())

    @functools.cached_property
    def rendered(self) -> Rendered:
        """The body with its headings and code."""
        from gateway.console.library.markdown import render  # noqa: PLC0415 -- as above

        return render(self._body)

    @functools.cached_property
    def markdown(self) -> str:
        """Its twin for programs, whose links lead to twins."""
        body = _INFO.sub(r"\1", self._body)
        return f"# {self.title}\n\n> {self.description}\n\n{_twin_links(body, self._base_url)}"

    @property
    def twin(self) -> str:
        """The path of its Markdown."""
        return f"{self.path}.md"


class Library:
    """
    The documentation of one service.

    Args:
        site: The service.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self._written = {each.path: self._page(each) for each in read_sources(site)}

    @functools.cached_property
    def _apis(self) -> Apis:
        from gateway.console.library.apis import Apis  # noqa: PLC0415 -- as above

        return Apis(self.site)

    @functools.cached_property
    def documents(self) -> dict[str, bytes]:
        """The OpenAPI documents by path."""
        return self._apis.documents()

    @functools.cached_property
    def pages(self) -> dict[str, DocPage]:
        """All pages by path, in the order of the sidebar."""
        pages = [*self._written.values(), *map(self._page, self._apis.sources())]
        pages.sort(key=lambda each: SECTIONS.index(each.section))
        return {each.path: each for each in pages}

    def find(self, path: str) -> DocPage | None:
        """Return the page at a path."""
        return self._written.get(path) or self.pages.get(path)

    def guide(self, path: str) -> DocPage:
        """Return a page that is not part of an API's reference; KeyError if there is none."""
        return self._written[path]

    def _page(self, source: Source) -> DocPage:
        return DocPage(source, self.site.base_url)

    def sections(self) -> dict[str, list[DocPage]]:
        """Return the pages by section, in the order of the sidebar."""
        found: dict[str, list[DocPage]] = {name: [] for name in SECTIONS}
        for page in self.pages.values():
            found[page.section].append(page)
        return found

    def neighbours(self, page: DocPage) -> tuple[DocPage | None, DocPage | None]:
        """Return the pages before and after a page."""
        pages = list(self.pages.values())
        at = pages.index(page)
        before = pages[at - 1] if at else None
        return before, pages[at + 1] if at + 1 < len(pages) else None

    def llms(self) -> str:
        """Return the index for language models: `/llms.txt`."""
        name = self.site.settings.brand.name
        parts = [
            f"# {name}\n",
            f"> {name} serves large language models through the APIs of OpenAI"
            f" (`{self.site.base_url}/v1`) and Anthropic (`{self.site.base_url}`), prepaid and"
            " priced by token. Any client of either API works by changing base URL and key.\n",
        ]
        for section, pages in self.sections().items():
            links = "".join(
                f"- [{page.title}]({self.site.base_url}{page.twin}): {page.description}\n"
                for page in pages
            )
            parts.append(f"## {section}\n\n{links}")
        document = f"{self.site.base_url}/openapi.json"
        parts.append(
            f"## Optional\n\n- [OpenAPI]({document}): The API as an OpenAPI 3.1 document.\n"
        )
        return "\n".join(parts)

    def llms_full(self) -> str:
        """Return all pages in their order: `/llms-full.txt`."""
        return "\n\n".join(page.markdown.rstrip("\n") for page in self.pages.values()) + "\n"

    def sitemap(self, others: Sequence[str]) -> str:
        """Return `/sitemap.xml` with the pages of the documentation and others."""
        urls = "".join(
            f"<url><loc>{self.site.base_url}{path}</loc></url>\n" for path in [*others, *self.pages]
        )
        schema = "http://www.sitemaps.org/schemas/sitemap/0.9"
        head = '<?xml version="1.0" encoding="UTF-8"?>\n'
        return f'{head}<urlset xmlns="{schema}">\n{urls}</urlset>\n'

    def search_index(self) -> list[tuple[str, str, str]]:
        """Return (path with anchor, page title, heading) of the headings to search."""
        found: list[tuple[str, str, str]] = []
        for page in self.pages.values():
            found.append((page.path, page.title, ""))
            found += [
                (f"{page.path}#{each.anchor}", page.title, each.text)
                for each in page.rendered.headings
                if each.level <= _depth(page)
            ]
        return found


def _depth(page: DocPage) -> int:
    """Return the lowest heading level that the search includes; settings are level 3."""
    if page.section in _ALIKE:
        return 0
    return 3 if page.path in (f"{ROOT}/configuration", f"{ROOT}/errors", f"{ROOT}/metrics") else 2


def _twin_links(body: str, base_url: str) -> str:
    """Return Markdown with absolute links to the twins of pages."""
    twins = _LINK.sub(lambda match: f"]({base_url}{match[1]}.md{match[2] or ''})", body)
    return twins.replace("](/", f"]({base_url}/")
