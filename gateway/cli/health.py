"""`capio health`: the health of deployments in the last minutes, over all workers and pods."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec
from redis.exceptions import RedisError

from gateway.cli.config import config_option, load_config, store_secrets
from gateway.cli.formats import FAILURE, Row, fail, json_option, print_json, print_rows
from gateway.core.catalogue import build
from gateway.settings import Settings
from gateway.store.health.minutes import MOST_MINUTES, DeploymentReport, read_health
from gateway.store.redis.address import cold_client, redis_target


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
    settings = load_config(config_path)
    try:
        reports = asyncio.run(_read(settings, minutes))
    except (RedisError, OSError, ValueError) as error:
        fail([f"Redis cannot be read: {error}. Is the gateway running?"], FAILURE)
    if as_json:
        print_json([msgspec.to_builtins(each) for each in reports])
    else:
        print_rows([_row(each) for each in reports], as_json=False)


async def _read(settings: Settings, minutes: int) -> list[DeploymentReport]:
    catalogue = build(settings, {})
    labels = dict.fromkeys(each.label for model in catalogue.models for each in model.deployments)
    client = cold_client(redis_target(settings, store_secrets(settings), "capio-cli"))
    try:
        return await read_health(client, settings.redis.key_prefix, list(labels), minutes)
    finally:
        await client.aclose()


def _row(report: DeploymentReport) -> Row:
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
