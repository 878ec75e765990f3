"""`capio status`: the workers, calls, ledger and deployments of the gateway that runs here."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from gateway.cli.config import config_option, load_config
from gateway.cli.formats import (
    FAILURE,
    OutputRow,
    fail,
    json_option,
    print_json,
    print_record,
    print_rows,
)
from gateway.server.control import ControlError, send_command
from gateway.settings import Settings
from gateway.settings.urls import host_and_port

_TIMEOUT_S = 10.0
_DEPLOYMENT_STATES = ("ready", "resting", "half open", "open", "out")
_METRICS: Final = {
    "in_flight_calls": "gateway_in_flight_calls",
    "ledger_lag_s": "gateway_ledger_lag_seconds",
    "ledger_events": "gateway_ledger_stream_length",
    "spilled_bytes": "gateway_spill_bytes",
    "without_redis": "gateway_degraded",
}


class Figures(msgspec.Struct, frozen=True):
    """Values of the metrics, over all processes of this gateway."""

    values: dict[str, float | None]
    """By the names of `_METRICS`; None: not measured yet."""
    deployments: dict[str, str]
    """The worst state of each deployment that had an attempt, over the workers."""


@click.command()
@config_option
@json_option
def status(config_path: Path | None, as_json: bool) -> None:
    """
    Show workers, calls in flight, the ledger's queue and the state of deployments.

    Asks the gateway of this configuration on this machine. `capio health` shows deployments over
    all machines. Exits with code 1 if the gateway does not run or respond.
    """
    settings = load_config(config_path)
    try:
        reply = send_command(Path(settings.server.data_dir), {"command": "status"}, _TIMEOUT_S)
    except ControlError as error:
        fail([str(error)], FAILURE)
    try:
        figures = read_figures(_scrape(settings))
    except (OSError, ValueError) as error:
        click.echo(f"The metrics cannot be read: {error}.", err=True)
        figures = Figures(dict.fromkeys(_METRICS), {})
    workers = reply.pop("workers", [])
    reply.pop("ok", None)
    if as_json:
        print_json(
            {**reply, **figures.values, "workers": workers, "deployments": figures.deployments}
        )
        return
    print_record({**reply, **_for_people(figures.values)}, as_json=False)
    click.echo()
    if isinstance(workers, list):
        print_rows([each for each in workers if isinstance(each, dict)], as_json=False)
    rows: list[OutputRow] = [
        {"deployment": name, "state": state} for name, state in figures.deployments.items()
    ]
    print_rows(rows, as_json=False, empty="No deployment has had an attempt yet.")


def read_figures(text: str) -> Figures:
    """
    Return the figures in a page of metrics.

    Raises:
        ValueError: It is not such a page.
    """
    values: dict[str, float | None] = dict.fromkeys(_METRICS)
    names = {metric: name for name, metric in _METRICS.items()}
    states: dict[str, str] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in names:
                values[names[sample.name]] = sample.value
            elif sample.name == "gateway_deployment_state":
                index = min(int(sample.value), len(_DEPLOYMENT_STATES) - 1)
                states[sample.labels["deployment"]] = _DEPLOYMENT_STATES[index]
    return Figures(values, states)


def _scrape(settings: Settings) -> str:
    host = settings.metrics.host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- not to listen
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"http://{host_and_port(host, settings.metrics.port)}/metrics"
    with opener.open(url, timeout=_TIMEOUT_S) as response:
        text: str = response.read().decode()
    return text


def _for_people(values: Mapping[str, float | None]) -> OutputRow:
    shown: dict[str, object] = {}
    for name, value in values.items():
        if name == "without_redis" and value is not None:
            shown[name] = value > 0
        elif value is not None and value.is_integer():
            shown[name] = int(value)
        else:
            shown[name] = value
    return shown
