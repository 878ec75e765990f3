"""
The text of configuration errors: one line with the key path, the value and what is allowed.

A value is shown only where it cannot be a secret.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable

_SHOWN_CHARACTERS = 80
_LARGEST_SHOWN = 10**30
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_SECRET_KEY = re.compile(r"key|secret|token|passw|credential|auth", re.IGNORECASE)
_URL_SECRETS = re.compile(r"(?<=://)\S*(?=@)|(?<=\?)\S+")
"""A URL's user part, which may contain any character, and its query."""

NOT_SHOWN = "the value (not shown, it may be a secret)"


class ConfigError(Exception):
    """
    The configuration cannot be used.

    `errors` is never empty and has one line per error: first invalid values, then conflicts
    between settings.
    """

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(self.errors))


def shown(value: object) -> str:
    """Return a value as TOML spells it: on one line, cut short, without a URL's secrets."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        open_part = _URL_SECRETS.sub("***", value) if "://" in value else value
        text = json.dumps(open_part, ensure_ascii=not value.isprintable())
        return text if len(text) <= _SHOWN_CHARACTERS else f'{text[: _SHOWN_CHARACTERS - 4]}..."'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, int) and abs(value) > _LARGEST_SHOWN:
        return "a huge number"  # Python refuses to print thousands of digits
    return str(value)


def join(path: str, key: str) -> str:
    """Return the path of a table's key, quoted where TOML requires quotes."""
    part = key if _BARE_KEY.match(key) else json.dumps(key, ensure_ascii=not key.isprintable())
    return f"{path}.{part}" if path else part


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ` (did you mean x?)` for a word close to a known one, else nothing."""
    if not isinstance(word, str):
        return ""
    by_folded = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_folded, n=1)
    return f" (did you mean {by_folded[close[0]]}?)" if close else ""


def is_secret_name(name: str) -> bool:
    """Return whether a key's value may be a secret, by the key's name."""
    return _SECRET_KEY.search(name) is not None


def unknown_key(path: str, key: str, value: object, known: Iterable[str]) -> str:
    """Return the error of a key that the section does not have."""
    names = sorted(known)
    if isinstance(value, dict | list):
        what = shown(value)
    else:
        what = NOT_SHOWN if is_secret_name(key) else shown(value)
    return (
        f"{join(path, key)}: unknown key, set to {what}; "
        f"known: {', '.join(names)}{did_you_mean(key, names)}"
    )
