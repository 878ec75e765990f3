"""
Turns a parsed TOML document into `Settings` and reports every structural error.

msgspec's own conversion stops at the first error, so the document is walked along the structs'
types. An invalid value is reported and replaced by its default, or by a blank ("", an empty list)
if it has none. The result is always complete; later rules run over it and ignore blanks.
"""

from __future__ import annotations

import functools
import re
from typing import TypeGuard, TypeVar

import msgspec
import msgspec.inspect as types

from gateway.settings.errors import NOT_SHOWN, did_you_mean, join, shown, unknown_key

Table = TypeVar("Table", bound=msgspec.Struct)


class _Wrong:
    """The type of `_WRONG`, the placeholder of a value whose error was reported."""


_WRONG = _Wrong()


def read_table(
    raw: dict[str, object], kind: type[Table], errors: list[str], path: str = ""
) -> Table:
    """
    Return `raw`, which is at `path`, as a complete `kind`; append one line for each error.

    Errors are unknown keys, missing keys, wrong types and values out of range.
    """
    table = _Reader(errors).table(raw, _type_of(kind), path)
    assert isinstance(table, kind)
    return table


@functools.cache
def _type_of(kind: type[msgspec.Struct]) -> types.StructType:
    """Return the type of a table, which takes some 10 ms to inspect."""
    info = types.type_info(kind)
    assert isinstance(info, types.StructType)
    return info


class _Reader:
    def __init__(self, errors: list[str]) -> None:
        self._errors = errors

    def table(self, raw: dict[str, object], kind: types.StructType, path: str) -> object:
        known = {field.encode_name: field for field in kind.fields}
        for key, value in raw.items():
            if key not in known:
                self._errors.append(unknown_key(path, key, value, known))
        values: dict[str, object] = {}
        for key, field in known.items():
            value = self._field(raw, field, join(path, key))
            if not isinstance(value, _Wrong):
                values[field.name] = value
            elif field.required:
                values[field.name] = _blank(field.type)
        return kind.cls(**values)

    def _field(self, raw: dict[str, object], field: types.Field, path: str) -> object:
        if field.encode_name in raw:
            return self.value(raw[field.encode_name], field.type, path)
        if field.required:
            self._errors.append(f"{path}: missing; expected {_allowed(field.type)}")
        return _WRONG

    def value(self, value: object, kind: types.Type, path: str) -> object:
        kind = unwrapped(kind)
        match kind:
            case types.StructType():
                if isinstance(value, dict):
                    return self.table(value, kind, path)
            case types.ListType():
                if isinstance(value, list) and len(value) >= (kind.min_length or 0):
                    return self._items(value, kind.item_type, path)
            case types.DictType():
                if isinstance(value, dict):
                    return self._entries(value, kind.value_type, path)
            case types.FloatType() if _is_number(value) and _in_range(value, kind):
                return float(value)
            case _ if _fits(value, kind):
                return value
        self._errors.append(_refusal(value, kind, path))
        return _WRONG

    def _items(self, values: list[object], kind: types.Type, path: str) -> list[object]:
        """
        Return the valid items.

        Invalid tables are replaced by blanks, so that indexes stay the same; others are dropped.
        """
        items: list[object] = []
        for index, value in enumerate(values):
            item = self.value(value, kind, f"{path}[{index}]")
            if not isinstance(item, _Wrong):
                items.append(item)
            elif isinstance(kind, types.StructType):
                items.append(_blank(kind))
        return items

    def _entries(self, values: dict[str, object], kind: types.Type, path: str) -> dict[str, object]:
        entries = {key: self.value(value, kind, join(path, key)) for key, value in values.items()}
        return {key: value for key, value in entries.items() if not isinstance(value, _Wrong)}


def _fits(value: object, kind: types.Type) -> bool:
    match kind:
        case types.Metadata():
            return _fits(value, kind.type)
        case types.BoolType():
            return isinstance(value, bool)
        case types.IntType():
            return _is_number(value) and isinstance(value, int) and _in_range(value, kind)
        case types.StrType():
            return isinstance(value, str) and _is_text(value, kind)
        case types.LiteralType():
            return isinstance(value, str) and value in kind.values
        case types.CustomType():  # `object`: capabilities, checked by `CapsCheck`
            return True
        case _:
            return False


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_range(value: int | float, kind: types.IntType | types.FloatType) -> bool:
    return (  # a NaN is in no range
        (kind.gt is None or value > kind.gt)
        and (kind.ge is None or value >= kind.ge)
        and (kind.le is None or value <= kind.le)
    )


def _is_text(value: str, kind: types.StrType) -> bool:
    if not (kind.min_length or 0) <= len(value) <= (kind.max_length or len(value)):
        return False
    return kind.pattern is None or re.search(kind.pattern, value) is not None


def unwrapped(kind: types.Type) -> types.Type:
    """Return the type of a value, without `| None` and without the description of a container."""
    match kind:
        case types.UnionType():
            return unwrapped(_without_none(kind))
        case types.Metadata(
            type=types.UnionType()
            | types.StructType()
            | types.ListType()
            | types.DictType()
            | types.FloatType() as inner
        ):
            return unwrapped(inner)
        case _:
            return kind


def _without_none(kind: types.UnionType) -> types.Type:
    """Return the type of an optional setting without None: TOML has no null."""
    (inner,) = (item for item in kind.types if not isinstance(item, types.NoneType))
    return inner


def _blank(kind: types.Type) -> object:
    match kind:
        case types.Metadata():
            return _blank(kind.type)
        case types.StructType():
            return kind.cls(**{f.name: _blank(f.type) for f in kind.fields if f.required})
        case types.ListType():
            return []
        case _:
            return ""


def _refusal(value: object, kind: types.Type, path: str) -> str:
    hidden = isinstance(kind, types.Metadata) and bool((kind.extra or {}).get("hidden"))
    what = NOT_SHOWN if hidden else shown(value)
    hint = did_you_mean(value, _words(kind))
    return f"{path}: {what} is not {_allowed(kind)}{hint}"


def _words(kind: types.Type) -> list[str]:
    if isinstance(kind, types.Metadata):
        return _words(kind.type)
    return [str(word) for word in kind.values] if isinstance(kind, types.LiteralType) else []


def _allowed(kind: types.Type) -> str:
    """Return what a type accepts, in words."""
    match kind:
        case types.Metadata():
            return str((kind.extra or {}).get("allowed") or _allowed(kind.type))
        case types.UnionType():
            return _allowed(_without_none(kind))
        case types.BoolType():
            return "true or false"
        case types.IntType():
            return f"a whole number{_range(kind)}"
        case types.FloatType():
            return f"a number{_range(kind)}"
        case types.StrType():
            longest = f" of 1 to {kind.max_length} characters" if kind.max_length else ""
            return f"a string in quotes{longest}"
        case types.LiteralType():
            return f"one of {', '.join(_words(kind))}"
        case types.ListType():
            return f"a list of {_items_allowed(kind)}"
        case _:
            return "a table"


def _range(kind: types.IntType | types.FloatType) -> str:
    if kind.gt is not None:
        return f" above {kind.gt:g}, at most {kind.le:g}"
    return f" from {kind.ge:d} to {kind.le:d}" if isinstance(kind.ge, int) else ""


def _items_allowed(kind: types.ListType) -> str:
    noun = "table" if isinstance(kind.item_type, types.StructType) else "string"
    return f"at least one {noun}" if kind.min_length else f"{noun}s"
