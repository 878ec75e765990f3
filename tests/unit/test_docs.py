"""The documents are true: each setting stands in gateway/README.md with its default."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import msgspec.inspect as types
import pytest

from gateway.settings import Settings

README = Path(__file__).resolve().parents[2] / "gateway" / "README.md"
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
ROWS = {row[0]: row for row in ROW.findall(README.read_text("utf-8"))}


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
