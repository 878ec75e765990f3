"""Lists the settings of a provider or model that are not defaults, as the file would have them."""

from __future__ import annotations

from typing import Any

import msgspec

HIDDEN = "***"


def given_settings(section: msgspec.Struct) -> dict[str, Any]:
    """Return the settings without defaults and without `name`; headers are hidden."""
    found = {name: value for name, value in _given(section).items() if name != "name"}
    if found.get("headers"):  # free text, which may contain secrets
        found["headers"] = dict.fromkeys(found["headers"], HIDDEN)
    return found


def _given(section: msgspec.Struct) -> dict[str, Any]:
    found = {}
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if value != default:
            found[field.encode_name] = _builtin(value)
    return found


def _builtin(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return _given(value)
    if isinstance(value, list):
        return [_builtin(item) for item in value]
    return value
