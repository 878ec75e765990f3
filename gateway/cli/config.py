"""Finding and reading the configuration file for a command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import click

from gateway.cli.output import MISUSE, fail
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import ConfigError, Secrets, Settings, load, resolve_secrets

DEFAULT_PATH = Path("capio.toml")

SHORTEST = """\
[[providers]]
name = "deepseek"
openai = { base_url = "https://api.deepseek.com/v1" }
api_key_env = "DEEPSEEK_API_KEY"

[[models]]
name = "deepseek-v4-flash"
deployments = [{ provider = "deepseek", model = "deepseek-v4-flash" }]
"""

_EXPLANATION = f"""\
There is no configuration: no {DEFAULT_PATH} in this directory, and no other file by --config.

Write one. The shortest that works:

{SHORTEST}
Then:

    export DEEPSEEK_API_KEY=...
    capio check-config --config {DEFAULT_PATH}
    capio serve --config {DEFAULT_PATH}

capio.example.toml holds a whole catalogue, docs/configuration.md documents every setting.
`capio demo` runs without a configuration and without a provider."""

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"The configuration, TOML.  [default: {DEFAULT_PATH}, if there is one]",
)


def find_config(config_path: Path | None) -> Path:
    """Return the file to read; without one, say what to write and end with exit code 2."""
    if config_path is not None:
        return config_path
    if not DEFAULT_PATH.is_file():
        fail([_EXPLANATION], MISUSE)
    return DEFAULT_PATH


def read_config(path: Path) -> Settings:
    """
    Return the checked settings.

    Raises:
        ConfigError: With every mistake in the file.
    """
    return load(path, capabilities)


def read_secrets(settings: Settings) -> Secrets:
    """
    Return the secrets that the settings point to.

    Raises:
        ConfigError: With every secret that cannot be had.
    """
    return resolve_secrets(settings, os.environ, _read_text)


def load_config(config_path: Path | None) -> Settings:
    """Return the settings, or print every mistake and end with exit code 2."""
    path = find_config(config_path)
    try:
        return read_config(path)
    except ConfigError as failure:
        refuse_config(path, failure.errors)


def store_secrets(settings: Settings) -> Secrets:
    """Return the passwords of Redis and SQL, or print what is missing and end with exit code 2."""
    try:
        return resolve_secrets(settings, os.environ, _read_text, stores_only=True)
    except ConfigError as failure:
        fail(failure.errors, MISUSE)


def refuse_config(path: Path, errors: list[str]) -> NoReturn:
    """Print the mistakes of a configuration and end with exit code 2."""
    noun = "error" if len(errors) == 1 else "errors"
    fail([f"{path}: {len(errors)} {noun}", *(f"  {line}" for line in errors)], MISUSE)


def _read_text(path: str) -> str:
    return Path(path).read_text("utf-8")
