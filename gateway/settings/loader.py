"""From the configuration file's text to `Settings`, or to every mistake in it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from gateway.settings.errors import ConfigError
from gateway.settings.reading import read_table
from gateway.settings.rules import CapsCheck, check_rules
from gateway.settings.schema import Settings


def load(path: Path, check_caps: CapsCheck | None = None) -> Settings:
    """
    Return the settings of a TOML file.

    Args:
        path: The file, UTF-8.
        check_caps: Judges overrides of a dialect's capabilities; None leaves them unchecked.

    Raises:
        ConfigError: The file cannot be read, is no TOML, or holds mistakes: all of them.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as failure:
        raise ConfigError([f"{path}: cannot be read: {failure.strerror}"]) from failure
    except UnicodeDecodeError as failure:
        raise ConfigError([f"{path}: is not UTF-8 at byte {failure.start}"]) from failure
    return parse(text, check_caps)


def parse(text: str, check_caps: CapsCheck | None = None) -> Settings:
    """
    Return the settings of a TOML document; arguments and errors as for `load`.

    Nothing is expanded and nothing is looked up: whether secrets are where the document says is
    `resolve_secrets`' question.
    """
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as failure:  # numbers and nesting beyond Python's limits
        raise ConfigError([f"not TOML: {failure}"]) from failure
    errors = [  # a file cut short must not become an empty catalogue
        f"{catalogue}: missing; allowed: at least one [[{catalogue}]] table"
        for catalogue in ("providers", "models")
        if raw.get(catalogue, []) == []
    ]
    settings = read_table(raw, Settings, errors)
    errors.extend(check_rules(settings, check_caps))
    if errors:
        raise ConfigError(errors)
    return settings
