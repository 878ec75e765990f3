"""`capio demo`: the gateway with a simulated upstream."""

from __future__ import annotations

import sys

import click

from gateway.server.demonstration import demo as run_demo


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on.",
)
@click.option(
    "--faults",
    is_flag=True,
    help="Let the upstream fail at random, and print each fault.",
)
def demo(port: int, faults: bool) -> None:
    """Run the gateway with a simulated upstream; no provider is needed."""
    sys.exit(run_demo(port, faults=faults))
