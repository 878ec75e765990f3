"""Writes the settings of an entry as TOML, as the configuration file would have them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def write_toml(settings: Mapping[str, object]) -> str:
    """Return one line for each setting; tables and lists are inline."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in settings.items())


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case Mapping():
            items = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
            return f"{{ {items} }}" if items else "{}"
        case list() | tuple():
            if any(isinstance(item, Mapping) for item in value):
                return "".join(["[\n", *(f"  {_value(item)},\n" for item in value), "]"])
            return f"[{', '.join(_value(item) for item in value)}]"
        case _:
            return str(value)


def _key(key: str) -> str:
    return key if _BARE_KEY.match(key) else _text(key)


def _text(text: str) -> str:
    """Return a string as JSON, but TOML has no surrogates and does not allow U+007F."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
