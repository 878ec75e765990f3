"""`capio migrate`: the database's schema."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from gateway.cli.config import config_option, load_config, store_secrets
from gateway.cli.output import FAILURE, fail
from gateway.errors import GatewayError
from gateway.store.sql import migrations


@click.command()
@config_option
def migrate(config_path: Path | None) -> None:
    """Bring the database to this program's schema. Safe to run twice, or twice at once."""
    settings = load_config(config_path)
    secrets = store_secrets(settings)
    try:
        steps = asyncio.run(migrations.migrate(settings, secrets.sql_password))
    except GatewayError as failure:
        fail([f"{failure.message} ({failure.detail})"], FAILURE)
    except OSError as failure:
        fail([str(failure)], FAILURE)
    for step in steps:
        click.echo(f"Ran step {step}.")
    if not steps:
        click.echo("There is nothing to do.")
