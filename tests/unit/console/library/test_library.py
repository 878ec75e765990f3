"""The whole documentation: links, snippets, twins, indexes, and that it shows this service."""

from __future__ import annotations

import json
import re
import tomllib
from xml.etree import ElementTree

import pytest
import yaml

from gateway.console.library.library import DocPage, Library
from gateway.errors import ErrorKind
from tests.support.pages import demo_library, other_library

LIBRARIES = pytest.mark.parametrize(
    "library", [demo_library(), other_library()], ids=["demo", "other"]
)
OUTSIDE = ("/app", "/models", "/openapi.json", "/openapi-admin.json", "/v1", "/privacy", "/status")


def links_of(page: DocPage) -> list[str]:
    """Targets of all links of a page's HTML."""
    return re.findall(r'<a (?:class="\w+" )?href="([^"]+)"', page.rendered.html)


@LIBRARIES
def test_every_link_and_anchor_resolves(library: Library) -> None:
    """Links lead to pages of the documentation with their anchors, or to known other places."""
    anchors = {
        page.path: {heading.anchor for heading in page.rendered.headings}
        for page in library.pages.values()
    }
    wrong = []
    for page in library.pages.values():
        for link in links_of(page):
            target, _, anchor = link.removeprefix(library.site.base_url).partition("#")
            path = target or page.path
            known = path in anchors and (not anchor or anchor in anchors[path])
            if not known and not path.startswith(OUTSIDE) and not link.startswith("https://"):
                wrong.append((page.path, link))

    assert wrong == []


@LIBRARIES
def test_twins_link_to_twins(library: Library) -> None:
    """A program that follows the links of a twin gets Markdown."""
    for page in library.pages.values():
        assert page.markdown.startswith(f"# {page.title}\n\n> {page.description}\n\n")
        for target in re.findall(r"\]\(([^)\s]+)\)", page.markdown):
            path = target.removeprefix(library.site.base_url).partition("#")[0]
            if path.startswith("/docs"):
                assert path.removesuffix(".md") in library.pages, (page.path, target)
                assert path.endswith(".md"), (page.path, target)


def test_pages_show_the_service_and_nothing_of_another() -> None:
    """With another brand, host and catalogue no page names the demo's."""
    found = {
        page.path: re.findall(
            r"127\.0\.0\.1:8080|Capio\b|sk-capio|CAPIO_API|MiniMax-M3", page.markdown
        )
        for page in other_library().pages.values()
        if page.section in ("Start", "Clients", "API")
    }

    assert {path: names for path, names in found.items() if names} == {}
    assert "nimbus-1" in other_library().pages["/docs/models"].markdown
    assert "https://ai.test/v1/chat/completions" in other_library().pages["/docs"].markdown


@LIBRARIES
def test_snippets_are_what_they_claim_to_be(library: Library) -> None:
    """JSON, TOML and YAML can be read; Python compiles; no variable was left in a template."""
    for page in library.pages.values():
        for snippet in page.rendered.snippets:
            if snippet.language == "json":
                json.loads(snippet.text)
            elif snippet.language == "toml":
                tomllib.loads(snippet.text)
            elif snippet.language == "yaml":
                yaml.safe_load(snippet.text)
            elif snippet.language == "python":
                compile(snippet.text, page.path, "exec")
            assert "{%" not in snippet.text


def test_models_page_has_every_price() -> None:
    """One row per model, in the catalogue's order."""
    rows = re.findall(r"^\| \[`.*$", other_library().pages["/docs/models"].markdown, re.MULTILINE)

    assert rows == [
        "| [`nimbus-1`](https://ai.test/models/nimbus-1) | 262K | 98K |"
        " $0.50 | $1,234.50 | $0.50 | $0.50 | openai |",
        "| [`cirrus`](https://ai.test/models/cirrus) | 1.05M | 800 |"
        " free | free | free | free | openai |",
    ]
    assert "| `nimbus` | `nimbus-1` |" in other_library().pages["/docs/models"].markdown


def test_errors_page_has_every_kind() -> None:
    """Each has an anchor, which pages of the API link to."""
    anchors = {each.anchor for each in demo_library().pages["/docs/errors"].rendered.headings}

    assert {kind.value for kind in ErrorKind} <= anchors


def test_every_operation_has_a_page() -> None:
    """The reference has all operations of both documents."""
    library = demo_library()
    for folder, document in (("api", "/openapi.json"), ("admin-api", "/openapi-admin.json")):
        paths = json.loads(library.documents[document])["paths"]
        ids = {method["operationId"] for path in paths.values() for method in path.values()}
        assert {f"/docs/{folder}/{name.replace('_', '-')}" for name in ids} <= set(library.pages)


def test_llms_txt_lists_every_page_with_its_description() -> None:
    """H1, quote, sections of links to Markdown."""
    library = demo_library()
    lines = library.llms().split("\n")
    linked = re.findall(r"^- \[.+\]\((\S+)\): \S", library.llms(), re.MULTILINE)

    assert lines[0] == "# Capio"
    assert lines[2].startswith("> Capio serves")
    assert [line for line in lines if line.startswith("## ")][:3] == [
        "## Start", "## Clients", "## Guides",
    ]  # fmt: skip
    twins = [f"http://127.0.0.1:8080{page.twin}" for page in library.pages.values()]
    assert linked == [*twins, "http://127.0.0.1:8080/openapi.json"]


def test_llms_full_txt_has_all_pages_in_order() -> None:
    """Each with its title."""
    titles = re.findall(r"^# (.+)\n\n> ", demo_library().llms_full(), re.MULTILINE)

    assert titles == [page.title for page in demo_library().pages.values()]


def test_sitemap_is_xml_with_absolute_addresses() -> None:
    """The pages of the documentation and those that are named."""
    root = ElementTree.fromstring(other_library().sitemap(["/", "/models"]))
    found = [each.text for each in root.iter() if each.tag.endswith("loc")]

    assert found[:3] == ["https://ai.test/", "https://ai.test/models", "https://ai.test/docs"]
    assert len(found) == 2 + len(other_library().pages)


def test_search_index_is_small_and_finds_headings() -> None:
    """Under 40 KB; with the anchors of errors and settings."""
    index = demo_library().search_index()
    paths = {path for path, _, _ in index}

    assert len(json.dumps(index)) < 40_000
    assert {"/docs", "/docs/errors#no_credit", "/docs/configuration#serverport"} <= paths
    assert ("/docs/billing#prepaid-credit", "Billing", "Prepaid credit") in index


def test_neighbours_lead_through_all_pages() -> None:
    """The last page has none after it, the first none before it."""
    library = demo_library()
    pages = list(library.pages.values())

    assert library.neighbours(pages[0]) == (None, pages[1])
    assert library.neighbours(pages[5]) == (pages[4], pages[6])
    assert library.neighbours(pages[-1]) == (pages[-2], None)


def test_privacy_page_follows_the_settings() -> None:
    """Days of retention and times of kept responses are the settings'."""
    text = demo_library().pages["/docs/privacy"].markdown

    assert "**90 days**" in text
    assert "**Responses for an `Idempotency-Key`** are kept for 1 day" in text
    assert "**Responses of `/v1/responses`** are kept for 1 hour" in text
