"""gateway/README.md is true: settings, phases, layers, errors and metrics are the code's."""

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
README = ROOT / "gateway" / "README.md"
TEXT = README.read_text("utf-8")
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| (.+?) \| (.*?) ?\| (.+) \|$", re.MULTILINE)


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
    """How the README spells a field's default."""
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
ROWS = {row[0]: row for row in ROW.findall(TEXT)}


@pytest.mark.parametrize("name", SETTINGS)
def test_readme_documents_setting_with_its_default(name: str) -> None:
    """Effect, default and unit of each setting can be read in one place."""
    assert name in ROWS, f"gateway/README.md has no row for `{name}`"
    _, default, unit, effect = ROWS[name]

    assert default == SETTINGS[name]
    assert len(effect) > len("None.")
    if name.endswith(("_s", "_ms", "_bytes", "_days")):
        assert unit.split()[0] in {"seconds", "milliseconds", "bytes", "days"}


def test_readme_documents_no_setting_that_does_not_exist() -> None:
    """A setting that was removed is removed from the README."""
    sections = {name.partition(".")[0] for name in SETTINGS}

    documented = {name for name in ROWS if name.partition(".")[0] in sections and "." in name}

    assert documented == set(SETTINGS)


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its two lines of head."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_readme_names_the_phases_as_the_code_does() -> None:
    """Who reads of a phase finds it in the code by its name, in the same order, in its files."""
    listed = (proxy.__doc__ or "").split("docs use:")[1].split(".")[0]
    phases = [name.split("(")[0].strip() for name in listed.split(",")]

    rows = rows_of("Phases")

    assert [row[1].strip("`") for row in rows] == phases
    assert [row[0] for row in rows] == [str(number + 1) for number in range(len(phases))]
    for row in rows:
        for name in re.findall(r"`([\w/]+\.py)`", row[2]):
            assert (ROOT / "gateway" / name).is_file(), name


def test_readme_draws_the_phases_as_the_code_has_them() -> None:
    """The picture leaves no phase out."""
    drawing = TEXT.split("```mermaid")[1].split("```")[0]
    drawn = set(re.findall(r"(\w+)\(?\[", drawing))

    assert {row[1].strip("`") for row in rows_of("Phases")} <= drawn


def test_readme_lists_the_layers_of_the_import_contract() -> None:
    """What may import what is said and kept alike."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")

    assert TEXT.split("```layers\n")[1].split("\n```")[0].split("\n") == layers


def told(surface: Surface) -> list[str]:
    """How the README tells of a kind of error."""
    code = f", `{surface.openai_code}`" if surface.openai_code else ""
    return [
        surface.source.value,
        f"{surface.openai_status} `{surface.openai_type}`{code}",
        f"{surface.anthropic_status} `{surface.anthropic_type}`",
        {None: "as they like", True: "yes", False: "no"}[surface.should_retry],
    ]


def test_readme_lists_every_error_as_callers_see_it() -> None:
    """Status, type, code and advice are those of the one table that decides."""
    rows = rows_of("Errors")

    assert {row[0].strip("`"): row[1:5] for row in rows} == {
        kind.value: told(surface) for kind, surface in SURFACES.items()
    }
    assert [row[0] for row in rows if len(row[5]) < len("Nothing.")] == []


def test_readme_lists_every_metric_with_its_labels_and_meaning() -> None:
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

    assert rows_of("Metrics") == sorted(expected)


def test_readme_lists_every_path_of_the_operators_api() -> None:
    """Methods and paths are the routes', in their order."""
    nothing = cast("Any", None)
    routes = [
        *AdminAccounts(nothing, nothing).routes(),
        *AdminKeys(nothing, nothing, nothing).routes(),
        *AdminRecords(nothing).routes(),
    ]

    listed = [row[:2] for row in rows_of("The operator's API")]

    assert listed == [[route.method, f"`{route.path}`"] for route in routes]


def test_readme_links_lead_somewhere() -> None:
    """Files exist, and headings that are referred to are there."""
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}

    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (README.parent / target).exists(), target
