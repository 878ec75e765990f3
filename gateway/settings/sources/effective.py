"""Lists every setting with its effective value and where it came from, without secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from gateway.settings.errors import join, shown

HIDDEN = "***"
_HIDDEN_TABLES = frozenset({"headers"})
"""Tables whose values are not shown: they are free text, which may contain secrets."""
_ABSENT = object()
Source = Literal["default", "file", "environment"]


class EffectiveSetting(msgspec.Struct, frozen=True):
    """A setting with its effective value and its source."""

    path: str
    value: str | None
    """As TOML spells it; None: not set."""
    source: Source
    variable: str | None = None
    """The environment variable that set it."""


def effective_settings(
    settings: msgspec.Struct, raw: Mapping[str, object], variables: Mapping[str, str]
) -> Iterator[EffectiveSetting]:
    """
    Yield all settings in the order of the reference.

    Args:
        settings: Checked.
        raw: The document, with the overrides.
        variables: Key path of each overridden setting -> its variable.
    """
    yield from _Lister(variables).table(settings, raw, "")


class _Lister:
    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def table(self, table: msgspec.Struct, raw: object, path: str) -> Iterator[EffectiveSetting]:
        for field in msgspec.structs.fields(table):
            given = _ABSENT
            if isinstance(raw, Mapping):
                given = raw.get(field.encode_name, _ABSENT)
            yield from self._value(getattr(table, field.name), given, join(path, field.encode_name))

    def _value(self, value: object, raw: object, path: str) -> Iterator[EffectiveSetting]:
        match value:
            case msgspec.Struct():
                yield from self.table(value, raw, path)
            case [msgspec.Struct(), *_]:
                items = raw if isinstance(raw, list) else []
                for index, item in enumerate(value):
                    given = items[index] if index < len(items) else _ABSENT
                    yield from self._value(item, given, f"{path}[{index}]")
            case dict() if value:
                for key, item in value.items():
                    given = raw.get(key, _ABSENT) if isinstance(raw, Mapping) else _ABSENT
                    yield from self._value(item, given, join(path, key))
            case _:
                yield self._leaf(value, raw, path)

    def _leaf(self, value: object, raw: object, path: str) -> EffectiveSetting:
        variable = self._variable(path)
        source: Source = "default" if raw is _ABSENT else "file"
        if variable is not None:
            source = "environment"
        return EffectiveSetting(path, _text(value, path), source, variable)

    def _variable(self, path: str) -> str | None:
        for setting, variable in self._variables.items():
            if path == setting or path.startswith((f"{setting}.", f"{setting}[")):
                return variable
        return None


def _text(value: object, path: str) -> str | None:
    if value is None:
        return None
    if any(f".{name}." in path for name in _HIDDEN_TABLES):
        return HIDDEN
    if isinstance(value, list):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, dict):
        return "{}"
    return shown(value)
