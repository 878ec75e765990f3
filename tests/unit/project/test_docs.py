"""The pages under docs/ agree with the code: settings, phases, layers, errors and metrics."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import msgspec.inspect as types
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from gateway.edge.admin_accounts import AdminAccounts
from gateway.edge.admin_keys import AdminKeys
from gateway.edge.admin_records import AdminRecords
from gateway.errors import SURFACES, Surface
from gateway.pipeline import proxy
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = [
    *DOCS.rglob("*.md"),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "bench" / "README.md",
    ROOT / "deploy" / "k8s" / "README.md",
]
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| (.+?) \| (.*?) ?\| (.+) \|$", re.MULTILINE)


def text_of(page: str) -> str:
    """The text of a page under docs/."""
    return (DOCS / page).read_text("utf-8")


def tables_in(kind: types.Type) -> Iterator[types.StructType]:
    """The struct behind an optional table or a list of tables."""
    match kind:
        case types.StructType():
            yield kind
        case types.ListType(item_type=inner) | types.Metadata(type=inner):
            yield from tables_in(inner)
        case types.UnionType(types=inners):
            for inner in inners:
                yield from tables_in(inner)


def default_of(field: types.Field) -> str:
    """How the page spells a field's default."""
    if field.required:
        return "required"
    default = field.default
    if default is msgspec.NODEFAULT:
        assert field.default_factory is not msgspec.NODEFAULT
        default = field.default_factory()
    if default is None:
        return "none"
    if isinstance(default, msgspec.Struct):
        default = {}
    return f"`{json.dumps(default)}`"


def settings_of(kind: types.StructType, path: str = "") -> Iterator[tuple[str, str]]:
    """Every setting's path and default; a section at the top is a heading, not a setting."""
    for field in kind.fields:
        name = f"{path}{field.encode_name}"
        if path:
            yield name, default_of(field)
        for table in tables_in(field.type):
            yield from settings_of(table, f"{name}.")


STRUCT = types.type_info(Settings)
assert isinstance(STRUCT, types.StructType)
SETTINGS = dict(settings_of(STRUCT))
ROWS = {row[0]: row for row in ROW.findall(text_of("configuration.md"))}


@pytest.mark.parametrize("name", SETTINGS)
def test_docs_documents_setting_with_its_default(name: str) -> None:
    """Effect, default and unit of each setting can be read in one place."""
    assert name in ROWS, f"docs/configuration.md has no row for `{name}`"
    _, default, unit, effect = ROWS[name]

    assert default == SETTINGS[name]
    assert len(effect) > len("None.")
    if name.endswith(("_s", "_ms", "_bytes", "_days")):
        assert unit.split()[0] in {"seconds", "milliseconds", "bytes", "days"}


def test_docs_documents_no_setting_that_does_not_exist() -> None:
    """A setting that was removed is removed from the page."""
    sections = {name.partition(".")[0] for name in SETTINGS}

    documented = {name for name in ROWS if name.partition(".")[0] in sections and "." in name}

    assert documented == set(SETTINGS)


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the tables under a heading, without the two lines of a head."""
    section = text_of(page).split(f"{heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_docs_names_the_phases_as_the_code_does() -> None:
    """Who reads of a phase finds it in the code by its name, in the same order, in its files."""
    listed = (proxy.__doc__ or "").split("docs use:")[1].split(".")[0]
    phases = [name.split("(")[0].strip() for name in listed.split(",")]

    rows = rows_of("architecture.md", "## Phases")

    assert [row[1].strip("`") for row in rows] == phases
    assert [row[0] for row in rows] == [str(number + 1) for number in range(len(phases))]
    for row in rows:
        for name in re.findall(r"`([\w/]+\.py)`", row[2]):
            assert (ROOT / "gateway" / name).is_file(), name


def test_docs_draws_the_phases_as_the_code_has_them() -> None:
    """The picture leaves no phase out."""
    drawing = text_of("architecture.md").split("```mermaid")[1].split("```")[0]
    drawn = set(re.findall(r"(\w+)\(?\[", drawing))

    assert {row[1].strip("`") for row in rows_of("architecture.md", "## Phases")} <= drawn


def test_docs_lists_the_layers_of_the_import_contract() -> None:
    """What may import what is said and kept alike."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")

    assert (
        text_of("architecture.md").split("```layers\n")[1].split("\n```")[0].split("\n") == layers
    )


def as_documented(surface: Surface) -> list[str]:
    """The cells that describe a kind of error."""
    code = f", `{surface.openai_code}`" if surface.openai_code else ""
    return [
        surface.source.value,
        f"{surface.openai_status} `{surface.openai_type}`{code}",
        f"{surface.anthropic_status} `{surface.anthropic_type}`",
        {None: "as they like", True: "yes", False: "no"}[surface.should_retry],
    ]


def test_docs_lists_every_error_as_clients_see_it() -> None:
    """Status, type, code and advice are those of the one table that decides."""
    rows = rows_of("errors.md", "# Errors")

    assert {row[0].strip("`"): row[1:5] for row in rows} == {
        kind.value: as_documented(surface) for kind, surface in SURFACES.items()
    }
    assert [row[0] for row in rows if len(row[5]) < len("Nothing.")] == []


def test_docs_lists_every_metric_with_its_labels_and_meaning() -> None:
    """What can be scraped can be looked up, in the words of the metric itself."""
    declared = [
        value for value in vars(Metrics(CollectorRegistry())).values()
        if isinstance(value, MetricWrapperBase)
    ]  # fmt: skip
    expected = [
        [
            f"`{metric._name}{'_total' if metric._type == 'counter' else ''}`",
            metric._type,
            ", ".join(f"`{label}`" for label in metric._labelnames) or "none",
            metric._documentation,
        ]
        for metric in declared
    ]

    assert rows_of("metrics.md", "# Metrics") == sorted(expected)


def test_docs_lists_every_path_of_the_operators_api() -> None:
    """Methods and paths are the routes', in their order."""
    nothing = cast("Any", None)
    routes = [
        *AdminAccounts(nothing, nothing).routes(),
        *AdminKeys(nothing, nothing, nothing).routes(),
        *AdminRecords(nothing).routes(),
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


def test_index_lists_every_page() -> None:
    """Every page under docs/ is reachable from the two indexes."""
    for folder in (DOCS, DOCS / "decisions"):
        index = (folder / "README.md").read_text("utf-8")
        pages = {page.name for page in folder.glob("*.md")} - {"README.md"}
        assert {page for page in pages if f"]({page})" not in index} == set()
