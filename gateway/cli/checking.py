"""`capio check-config`: what a configuration says, and all that is wrong with it."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.config import config_option, find_config, read_config, read_secrets, refuse_config
from gateway.cli.output import Row, print_table
from gateway.core.catalogue import build
from gateway.core.model import Model
from gateway.core.money import dollars
from gateway.settings import ConfigError, Provider, Settings


@click.command()
@config_option
def check_config(config_path: Path | None) -> None:
    """Report what a configuration says and every mistake in it; look for its secrets."""
    path = find_config(config_path)
    try:
        settings = read_config(path)
    except ConfigError as failure:
        refuse_config(path, failure.errors)
    print_table(_stores(settings), title="Gateway")
    print_table([_provider(each) for each in settings.providers], title="Providers")
    catalogue = build(settings, {})
    print_table([_model(each) for each in catalogue.models], title="Models")
    try:
        read_secrets(settings)
    except ConfigError as failure:
        refuse_config(path, failure.errors)
    free = [
        model.name for model in catalogue.models if not (model.prices.input or model.prices.output)
    ]
    if free:
        click.echo(f"Free of charge, having no prices: {', '.join(free)}", err=True)
    click.echo(f"{path}: no mistakes.")


def _stores(settings: Settings) -> list[Row]:
    server, metrics = settings.server, settings.metrics
    scheme = "http" if server.tls_cert_file is None else "https"
    lines = {
        "serves": f"{scheme}://{server.host}:{server.port} with {server.workers} workers",
        "as": f"{settings.brand.name}, {settings.brand.public_url}",
        "metrics": f"http://{metrics.host}:{metrics.port}/metrics",
        "redis": settings.redis.url,
        "sql": settings.sql.url,
        "data": server.data_dir,
    }
    return [{"what": what, "value": value} for what, value in lines.items()]


def _provider(provider: Provider) -> Row:
    credential = "none"
    if provider.api_key_env is not None:
        credential = f"environment {provider.api_key_env}"
    elif provider.api_key_file is not None:
        credential = f"file {provider.api_key_file}"
    return {
        "name": provider.name,
        "dialect": provider.dialect,
        "openai": provider.openai and provider.openai.base_url,
        "anthropic": provider.anthropic and provider.anthropic.base_url,
        "credential": credential,
    }


def _model(model: Model) -> Row:
    return {
        "name": model.name,
        "context": model.context,
        "input": dollars(model.prices.input),
        "output": dollars(model.prices.output),
        "deployments": [each.label for each in model.deployments],
    }
