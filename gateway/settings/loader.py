"""Reads the configuration file into `Settings`, or reports every error in it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.settings.errors import ConfigError
from gateway.settings.reading import read_table
from gateway.settings.rules import check_rules
from gateway.settings.schema import Settings
from gateway.settings.sources.environment import apply_environment, name_variables
from gateway.settings.upstreams.rules import CapsCheck

_NOTHING: Mapping[str, str] = {}


class Loaded(NamedTuple):
    """Checked settings and their sources."""

    settings: Settings
    raw: dict[str, object]
    """The document with the overrides of the environment."""
    variables: dict[str, str]
    """Key path of each overridden setting -> its variable."""


def load(
    path: Path, check_caps: CapsCheck | None = None, environ: Mapping[str, str] = _NOTHING
) -> Settings:
    """
    Return the settings of a TOML file.

    Args:
        path: The file, UTF-8.
        check_caps: Checks overrides of a dialect's capabilities; None disables the check.
        environ: The environment, which overrides the file, see `sources.environment`.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or has errors: all of them.
    """
    return load_sources(path, check_caps, environ).settings


def load_sources(
    path: Path, check_caps: CapsCheck | None = None, environ: Mapping[str, str] = _NOTHING
) -> Loaded:
    """Return the settings of a TOML file and their sources; arguments and errors as for `load`."""
    try:
        text = path.read_text("utf-8")
    except OSError as failure:
        raise ConfigError([f"{path}: cannot be read: {failure.strerror}"]) from failure
    except UnicodeDecodeError as failure:
        raise ConfigError([f"{path}: is not UTF-8 at byte {failure.start}"]) from failure
    return _parse(text, check_caps, environ)


def parse(
    text: str, check_caps: CapsCheck | None = None, environ: Mapping[str, str] = _NOTHING
) -> Settings:
    """
    Return the settings of a TOML document; arguments and errors as for `load`.

    Nothing is expanded and no secret is read: `resolve_secrets` does that.
    """
    return _parse(text, check_caps, environ).settings


def _parse(text: str, check_caps: CapsCheck | None, environ: Mapping[str, str]) -> Loaded:
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as failure:  # numbers and nesting beyond Python's limits
        raise ConfigError([f"not TOML: {failure}"]) from failure
    errors: list[str] = []
    variables = apply_environment(raw, Settings, environ, errors)
    settings = read_table(raw, Settings, errors)
    errors.extend(check_rules(settings, check_caps))
    if not settings.catalogue.sql_only:
        errors = [*_missing(raw), *errors]
    if errors:
        raise ConfigError(name_variables(errors, variables))
    return Loaded(settings, raw, variables)


def _missing(raw: Mapping[str, object]) -> list[str]:
    """Return an error for each part of the catalogue that a truncated file would lack."""
    return [
        f"{part}: missing; expected at least one [[{part}]] table, or catalogue.sql_only = true if "
        "all are in SQL"
        for part in ("providers", "models")
        if raw.get(part, []) == []
    ]
