"""`capio health` and `capio probe`: the health of deployments, over all workers and pods."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec
from redis.exceptions import RedisError

from gateway.cli.config import config_option, load_config, store_secrets
from gateway.cli.database import Operations, actor, run
from gateway.cli.diagnosis.catalogue import served_settings
from gateway.cli.formats import FAILURE, OutputRow, fail, json_option, print_json, print_rows
from gateway.core.catalogue import build, deployment_labels
from gateway.core.routing.probes import Probe, ProbeOutcome
from gateway.operations.objects import probe_object
from gateway.operations.probes import ProbeOperations
from gateway.settings import Settings
from gateway.store.health.minutes import MOST_MINUTES, DeploymentReport, read_health
from gateway.store.health.probes import RedisProbes
from gateway.store.redis.address import redis_address
from gateway.store.redis.cluster.kinds import cold_client, detect


@click.command()
@click.option(
    "--minutes",
    type=click.IntRange(1, MOST_MINUTES),
    default=15,
    show_default=True,
    help="How many minutes, the current one included.",
)
@config_option
@json_option
def health(minutes: int, config_path: Path | None, as_json: bool) -> None:
    """Show the attempts and the state of every deployment."""
    settings = served_settings(load_config(config_path))
    try:
        reports = asyncio.run(_read(settings, minutes))
    except (RedisError, OSError, ValueError) as error:
        fail([f"Redis cannot be read: {error}. Is the gateway running?"], FAILURE)
    if as_json:
        print_json([msgspec.to_builtins(each) for each in reports])
    else:
        print_rows([_row(each) for each in reports], as_json=False)


@click.command()
@click.argument("deployment")
@config_option
@json_option
def probe(deployment: str, config_path: Path | None, as_json: bool) -> None:
    """
    Test DEPLOYMENT (`provider/model`) with each credential of its provider.

    A worker sends the smallest possible call, which the upstream charges. A deployment that was out
    and responds takes calls again at once, unless its upstream demands a rest.
    """
    settings = served_settings(load_config(config_path))
    try:
        found = run(settings, lambda operations: _probe(settings, operations, deployment))
    except (RedisError, ValueError) as error:
        fail([f"Redis cannot be reached: {error}. Is the gateway running?"], FAILURE)
    if as_json:
        print_json([probe_object(found)])
    else:
        print_rows([_outcome_row(each) for each in found.outcomes or ()], as_json=False)
    if not any(each.accepted for each in found.outcomes or ()):
        raise SystemExit(FAILURE)


async def _probe(settings: Settings, operations: Operations, deployment: str) -> Probe:
    client = cold_client(
        await detect(redis_address(settings, store_secrets(settings), "capio-cli"))
    )
    bus = RedisProbes(client.execute_command, settings.redis.key_prefix)
    labels = deployment_labels(build(settings, {}))
    try:
        probes = ProbeOperations(operations.database, bus, lambda: labels)
        return await probes.probe(deployment, actor())
    finally:
        await client.aclose()


def _outcome_row(outcome: ProbeOutcome) -> OutputRow:
    return {
        "credential": outcome.credential,
        "accepted": outcome.accepted,
        "status": outcome.status or None,
        "failure": None if outcome.failure is None else outcome.failure.value,
        "ms": outcome.ms,
        "message": outcome.message,
    }


async def _read(settings: Settings, minutes: int) -> list[DeploymentReport]:
    labels = deployment_labels(build(settings, {}))
    client = cold_client(
        await detect(redis_address(settings, store_secrets(settings), "capio-cli"))
    )
    try:
        return await read_health(client, settings.redis.key_prefix, labels, minutes)
    finally:
        await client.aclose()


def _row(report: DeploymentReport) -> OutputRow:
    state = report.state.value
    failed = [f"{count} {kind}" for kind, count in sorted(report.failures.items())]
    return {
        "deployment": report.deployment,
        "state": f"{state} ({report.reason})" if report.reason else state,
        "attempts": report.attempts,
        "ok": report.ok,
        "failed": failed,
        "ttft_p50_ms": report.ttft_p50_ms,
        "ttft_p95_ms": report.ttft_p95_ms,
    }
