"""`capio reload`, `capio drain` and `capio restart`: control the gateway on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.config import config_option, find_config, read_config
from gateway.cli.formats import FAILURE, MISUSE, fail
from gateway.server.control import ControlError, Reply, send_command
from gateway.settings import ConfigError

_RELOAD_S = 30.0
_RESTART_S = 3600.0


@click.command()
@config_option
def reload(config_path: Path | None) -> None:
    """
    Make the running gateway read its configuration again.

    Models, providers, prices and credentials apply to new calls at once. Exits with code 1 and the
    errors if the configuration was not applied: the gateway then continues with the old one.
    """
    reply = _send(config_path, {"command": "reload"}, _RELOAD_S)
    click.echo(f"Applied by {_workers(reply['workers'])}.")
    deferred = reply.get("from_the_next_start")
    if isinstance(deferred, list) and deferred:
        click.echo(f"These sections apply from the next start: {', '.join(map(str, deferred))}.")


@click.command()
@click.option("--cancel", is_flag=True, help="Report ready again.")
@config_option
def drain(config_path: Path | None, *, cancel: bool) -> None:
    """
    Make the running gateway report not ready, so that load balancers send no calls to it.

    `/readyz` is 503, and every response closes its connection. Calls are still served, until the
    gateway is stopped or `--cancel` is given.
    """
    reply = _send(config_path, {"command": "drain", "on": not cancel}, _RELOAD_S)
    state = "draining" if reply["draining"] else "ready"
    click.echo(f"The gateway is {state} ({_workers(reply['workers'])}).")


@click.command()
@config_option
def restart(config_path: Path | None) -> None:
    """
    Replace the workers of the running gateway, one by one, without a failed call.

    Each new worker serves before the old one stops accepting connections. Old workers finish their
    calls within `server.grace_s`.
    """
    reply = _send(config_path, {"command": "restart"}, _RESTART_S)
    click.echo(f"Replaced {_workers(reply['workers'])}.")
    if reply["leaving"]:
        click.echo(f"{_workers(reply['leaving'], 'old ')} finish their calls.")


def _workers(count: object, kind: str = "") -> str:
    return f"{count} {kind}worker" if count == 1 else f"{count} {kind}workers"


def _send(config_path: Path | None, command: dict[str, object], timeout_s: float) -> Reply:
    """Return the reply of the configured gateway, or print errors and exit."""
    path = find_config(config_path)
    try:
        settings = read_config(path)
    except ConfigError as error:
        fail([*error.errors, "The command was not sent; a running gateway is unchanged."], MISUSE)
    try:
        reply = send_command(Path(settings.server.data_dir), command, timeout_s)
    except ControlError as error:
        fail([str(error)], FAILURE)
    if not reply.get("ok"):
        errors = reply.get("errors")
        fail([str(line) for line in errors] if isinstance(errors, list) else ["Failed."], FAILURE)
    return reply
