"""Finds and reads the configuration file; `capio check-config` and `capio models`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import click

from gateway.cli.formats import (
    MISUSE,
    OutputRow,
    fail,
    print_table,
    record_text,
)
from gateway.core.catalogue import build
from gateway.core.model import Model
from gateway.core.money import dollars
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import (
    ConfigError,
    Provider,
    Secrets,
    Settings,
    Wanted,
    load,
    read_text,
    resolve_secrets,
)
from gateway.settings.urls import host_and_port

DEFAULT_PATH = Path("capio.toml")
PATH_VARIABLE = "CAPIO_CONFIG"
"""Environment variable that names the file, as the image's does."""

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
No configuration found: this directory has no {DEFAULT_PATH}, and neither --config
nor {PATH_VARIABLE} is given.

Create {DEFAULT_PATH}. A minimal configuration:

{SHORTEST}
Then:

    export DEEPSEEK_API_KEY=...
    capio check-config --config {DEFAULT_PATH}
    capio serve --config {DEFAULT_PATH}

capio.example.toml is a complete example; docs/configuration.md documents every setting.
`capio demo` needs neither a configuration nor a provider."""

_IN_SQL = """\
Providers and models are all in SQL. Add them on the page Catalogue, or with PUT
/admin/providers/NAME and PUT /admin/models/NAME. `capio doctor` checks them.
"""

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    envvar=PATH_VARIABLE,
    help=f"The configuration file, TOML.  [default: ${PATH_VARIABLE}, or {DEFAULT_PATH}]",
)


def find_config(config_path: Path | None) -> Path:
    """Return the configuration file, or explain how to create one and exit with code 2."""
    if config_path is not None:
        return config_path
    if not DEFAULT_PATH.is_file():
        fail([_EXPLANATION], MISUSE)
    return DEFAULT_PATH


def read_config(path: Path) -> Settings:
    """
    Return the checked settings.

    Raises:
        ConfigError: With all errors in the file.
    """
    return load(path, capabilities, os.environ)


def read_secrets(settings: Settings) -> Secrets:
    """
    Return the secrets that the settings refer to.

    Raises:
        ConfigError: With all secrets that are missing.
    """
    return resolve_secrets(settings, os.environ, read_text)


def load_config(config_path: Path | None) -> Settings:
    """Return the settings, or print all errors and exit with code 2."""
    path = find_config(config_path)
    try:
        return read_config(path)
    except ConfigError as error:
        refuse_config(path, error.errors)


def store_secrets(settings: Settings, wanted: Wanted = Wanted.STORES) -> Secrets:
    """Return the secrets of the stores, or print what is missing and exit with code 2."""
    try:
        return resolve_secrets(settings, os.environ, read_text, wanted=wanted)
    except ConfigError as error:
        fail(error.errors, MISUSE)


def refuse_config(path: Path, errors: list[str]) -> NoReturn:
    """Print the errors of a configuration and exit with code 2."""
    noun = "error" if len(errors) == 1 else "errors"
    fail([f"{path}: {len(errors)} {noun}", *(f"  {line}" for line in errors)], MISUSE)


@click.command()
@config_option
def check_config(config_path: Path | None) -> None:
    """Validate the configuration and its secrets, and print a summary."""
    path = find_config(config_path)
    try:
        settings = read_config(path)
    except ConfigError as error:
        refuse_config(path, error.errors)
    click.echo(f"Gateway\n\n{record_text(_summary(settings))}\n")
    catalogue = build(settings, {})
    if settings.catalogue.sql_only:
        click.echo(_IN_SQL)
    else:
        print_table([_provider_row(each) for each in settings.providers], title="Providers")
        print_table([_summary_row(each) for each in catalogue.models], title="Models")
    try:
        read_secrets(settings)
    except ConfigError as error:
        refuse_config(path, error.errors)
    free = [
        model.name for model in catalogue.models if not (model.prices.input or model.prices.output)
    ]
    if free:
        click.echo(f"Free of charge, as no prices are set: {', '.join(free)}", err=True)
    click.echo(f"{path}: no errors.")


def _summary(settings: Settings) -> OutputRow:
    server, metrics = settings.server, settings.metrics
    scheme = "http" if server.tls_cert_file is None else "https"
    address = f"{scheme}://{host_and_port(server.host, server.port)}"
    if server.direct_port is not None:
        address += f" and http://{host_and_port(server.host, server.direct_port)}"
    return {
        "serves": f"{address} with {server.workers} workers",
        "as": f"{settings.brand.name}, {settings.brand.public_url}",
        "metrics": f"http://{host_and_port(metrics.host, metrics.port)}/metrics",
        "redis": settings.redis.url,
        "sql": settings.sql.url,
        "data": server.data_dir,
    }


def _provider_row(provider: Provider) -> OutputRow:
    credential = "none"
    if provider.api_key_env is not None:
        credential = f"environment {provider.api_key_env}"
    elif provider.api_key_file is not None:
        credential = f"file {provider.api_key_file}"
    elif provider.api_keys:
        credential = f"{len(provider.api_keys)} in api_keys"
    return {
        "name": provider.name,
        "dialect": provider.dialect,
        "openai": provider.openai and provider.openai.base_url,
        "anthropic": provider.anthropic and provider.anthropic.base_url,
        "credential": credential,
    }


def _summary_row(model: Model) -> OutputRow:
    return {
        "name": model.name,
        "context": model.context,
        "input": dollars(model.prices.input),
        "output": dollars(model.prices.output),
        "deployments": [each.label for each in model.deployments],
    }
