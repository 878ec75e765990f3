"""`capio dead-letters`: usage events that could not be stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import click

from gateway.cli.config import config_option, load_config, store_secrets
from gateway.cli.database import Operations, actor, run
from gateway.cli.formats import OutputRow, json_option, print_rows
from gateway.operations.objects import letter_object
from gateway.operations.service.upkeep import UpkeepOperations
from gateway.settings import Settings
from gateway.store.accounts.reconcile_runs import ReconcileRuns
from gateway.store.hot_state.redis_schema import account_scripts
from gateway.store.redis.address import redis_address
from gateway.store.redis.client import RedisLimits
from gateway.store.redis.cluster.kinds import pipelined_client
from gateway.store.usage.dead_letters import DeadLetter, DeadLetters

_TIMEOUT_S = 2.0
Result = TypeVar("Result")


@click.group("dead-letters")
def dead_letters() -> None:
    """Show usage events that were set aside, and requeue them."""


@dead_letters.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@config_option
@json_option
def list_letters(limit: int, config_path: Path | None, as_json: bool) -> None:
    """List the newest events that were set aside, with the reason."""

    async def work(upkeep: UpkeepOperations) -> list[OutputRow]:
        return [letter_object(each) for each in await upkeep.letters(limit=limit)]

    print_rows(_run(load_config(config_path), work), as_json=as_json)


@dead_letters.command()
@click.argument("letters", nargs=-1, required=True)
@config_option
@json_option
def requeue(letters: tuple[str, ...], config_path: Path | None, as_json: bool) -> None:
    """Send LETTERS (their ids) to the ledger again. Repeating it books nothing twice."""

    async def work(upkeep: UpkeepOperations) -> list[OutputRow]:
        sent: list[DeadLetter] = [await upkeep.requeue(each, actor()) for each in letters]
        return [letter_object(each) for each in sent]

    print_rows(_run(load_config(config_path), work), as_json=as_json)


def _run(settings: Settings, work: Callable[[UpkeepOperations], Awaitable[Result]]) -> Result:
    async def connected(operations: Operations) -> Result:
        async with AsyncExitStack() as stack:
            redis = pipelined_client(
                redis_address(settings, store_secrets(settings), "capio-cli"),
                RedisLimits(command_timeout_s=_TIMEOUT_S),
                scripts=account_scripts().all(),
            )
            stack.push_async_callback(redis.aclose)
            await redis.start()
            prefix = settings.redis.key_prefix
            upkeep = UpkeepOperations(
                operations.database,
                DeadLetters(redis, prefix),
                ReconcileRuns(redis.command, prefix),
            )
            return await work(upkeep)

    return run(settings, connected)
