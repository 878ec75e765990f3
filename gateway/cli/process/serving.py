"""`capio serve`; each command has a module of its own, so that it imports only what it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway.cli.config import config_option, find_config, load_config, read_secrets, refuse_config
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
    except ConfigError as error:
        refuse_config(path, error.errors)
    sys.exit(run_gateway(settings, path))
