"""Reads the configuration file into `Settings`, or reports every error in it."""

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
        check_caps: Checks overrides of a dialect's capabilities; None disables the check.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or has errors: all of them.
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

    Nothing is expanded and no secret is read: `resolve_secrets` does that.
    """
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as failure:  # numbers and nesting beyond Python's limits
        raise ConfigError([f"not TOML: {failure}"]) from failure
    errors = [  # a truncated file must not become an empty catalogue
        f"{catalogue}: missing; expected at least one [[{catalogue}]] table"
        for catalogue in ("providers", "models")
        if raw.get(catalogue, []) == []
    ]
    settings = read_table(raw, Settings, errors)
    errors.extend(check_rules(settings, check_caps))
    if errors:
        raise ConfigError(errors)
    return settings
