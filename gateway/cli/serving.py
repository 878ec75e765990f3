"""`capio serve` and `capio demo`: the gateway itself."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway.cli.config import config_option, find_config, load_config, read_secrets, refuse_config
from gateway.server.demonstration import demo as run_demo
from gateway.server.start import serve as run_gateway
from gateway.settings import ConfigError


@click.command()
@config_option
def serve(config_path: Path | None) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    path = find_config(config_path)
    settings = load_config(path)
    try:
        read_secrets(settings)
    except ConfigError as failure:
        refuse_config(path, failure.errors)
    sys.exit(run_gateway(settings, path))


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Listen here."
)
def demo(port: int) -> None:
    """Run the gateway with a made-up upstream, to look around without a provider."""
    sys.exit(run_demo(port))
