"""The pages under docs/ agree with the code: settings, phases, layers, errors and metrics."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from gateway.console.admin_api.accounts import AdminAccounts
from gateway.console.admin_api.catalogue import AdminCatalogue
from gateway.console.admin_api.keys import AdminKeys
from gateway.console.admin_api.records import AdminRecords
from gateway.core.routing.failures import RULES, Effect, FailureRule
from gateway.pipeline import proxy

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = [
    *DOCS.rglob("*.md"),
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "bench" / "README.md",
    ROOT / "deploy" / "k8s" / "README.md",
]


def text_of(page: str) -> str:
    """The text of a page under docs/."""
    return (DOCS / page).read_text("utf-8")


def generator() -> ModuleType:
    """The script that writes the reference pages."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED: dict[str, str] = generator().pages()


@pytest.mark.parametrize("page", GENERATED)
def test_generated_page_is_current(page: str) -> None:
    """A page equals what `make docs` writes, so that it documents every setting, error, metric."""
    assert text_of(page) == GENERATED[page], "run `make docs`"


def test_every_setting_of_time_and_size_has_a_unit() -> None:
    """The reference names the unit of each setting whose name ends in one."""
    blocks = GENERATED["configuration.md"].split("\n### `")[1:]
    named = [block for block in blocks if re.match(r"\S+_(s|ms|bytes|days)`", block)]

    assert len(named) > 20
    assert [block for block in named if "Unit: " not in block] == []


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the tables under a heading, without the two lines of a head."""
    section = text_of(page).split(f"{heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.split("\n") if line.startswith("|")]
    # A cell may be empty, and one with code may have a bar without a space.
    cells = (re.split(r" \|(?= )", line.strip("|")) for line in lines[2:])
    return [[cell.strip() for cell in row] for row in cells]


def test_docs_names_the_phases_as_the_code_does() -> None:
    """The table has the phases of `Proxy` in their order, and files that exist."""
    listed = (proxy.__doc__ or "").split("docs use:")[1].split(".")[0]
    phases = [name.split("(")[0].strip() for name in listed.split(",")]

    rows = rows_of("architecture.md", "## Phases")

    assert [row[1].strip("`") for row in rows] == phases
    assert [row[0] for row in rows] == [str(number + 1) for number in range(len(phases))]
    for row in rows:
        for name in re.findall(r"`([\w/]+\.py)`", row[2]):
            assert (ROOT / "gateway" / name).is_file(), name


def test_docs_draws_the_phases_as_the_code_has_them() -> None:
    """Every phase of the table is a node of the diagram."""
    drawing = text_of("architecture.md").split("```mermaid")[1].split("```")[0]
    drawn = set(re.findall(r"(\w+)\(?\[", drawing))

    assert {row[1].strip("`") for row in rows_of("architecture.md", "## Phases")} <= drawn


def test_docs_lists_the_layers_of_the_import_contract() -> None:
    """The layers on the page are those that import-linter enforces."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")

    assert (
        text_of("architecture.md").split("```layers\n")[1].split("\n```")[0].split("\n") == layers
    )


def test_docs_says_what_follows_from_each_class_of_failure() -> None:
    """The columns retry, fallback and health of every row are those of its rule."""
    effects = {
        Effect.NONE: "",
        Effect.BREAKER: "breaker",
        Effect.COOL_DOWN: "rests",
        Effect.OUT: "out",
    }

    def columns(rule: FailureRule) -> list[str]:
        again = "yes" if rule.retry else "no"
        if rule.rotate:
            again = "other key, then yes" if rule.retry else "other key"
        return [again, "yes" if rule.fallback else "no", effects[rule.effect]]

    rows = rows_of("routing.md", "## Failures")

    assert [[row[0].strip("`"), *row[2:5]] for row in rows] == [
        [each.value, *columns(rule)] for each, rule in RULES.items()
    ]
    assert all(len(row) == 6 for row in rows)


def test_docs_lists_every_path_of_the_operators_api() -> None:
    """Methods and paths are the routes', in their order."""
    nothing = cast("Any", None)
    routes = [
        *AdminAccounts(nothing, nothing).routes(),
        *AdminKeys(nothing, nothing, nothing).routes(),
        *AdminRecords(nothing).routes(),
        *AdminCatalogue(nothing).routes(),
    ]

    listed = [row[:2] for row in rows_of("admin-api.md", "# Admin API")]

    assert listed == [[route.method, f"`{route.path}`"] for route in routes]


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    """Linked files exist, and linked headings are in them."""
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            assert anchor in anchors_of(linked), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_fit_into_120_columns(page: Path) -> None:
    """Every page can be read in a terminal; the benchmark writes its own tables."""
    written = page.read_text("utf-8")
    text = re.sub(r"<!-- rounds:.*?<!-- end of rounds -->", "", written, flags=re.DOTALL)

    assert [line for line in text.split("\n") if len(line) > 120] == []


def test_contributing_names_existing_files() -> None:
    """Every path on the contributing page exists, in the tasks' table and in the text."""
    text = text_of("contributing.md")
    tasks = rows_of("contributing.md", "## Where things are")
    paths = re.findall(r"`((?:gateway|tests|docs|bench)/[\w/.-]+)`", text)

    assert len(tasks) >= 10
    assert all(re.search(r"`gateway/[\w/.]+`", task[1]) for task in tasks)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_index_lists_every_page() -> None:
    """Every page under docs/ is reachable from the two indexes."""
    for folder in (DOCS, DOCS / "decisions"):
        index = (folder / "README.md").read_text("utf-8")
        pages = {page.name for page in folder.glob("*.md")} - {"README.md"}
        assert {page for page in pages if f"]({page})" not in index} == set()
