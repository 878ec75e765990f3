"""The census of workers over a fake Redis; with several workers it is an integration test."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest

from gateway.store.hot_state import census
from gateway.store.hot_state.census import GONE_S, WorkerCensus
from gateway.store.redis.client import PipelinedRedis
from tests.support.waiting import wait_until


class FakeBus:
    """Replies to the script with what a test sets, and notes commands."""

    def __init__(self) -> None:
        self.reply: int | Exception = 3
        self.scripts = 0
        self.sent: list[object] = []
        self.commands: list[tuple[object, ...]] = []

    async def script(self, script: object, keys: list[str], arguments: list[object]) -> int:
        self.scripts += 1
        self.sent = [*keys, *arguments]
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def command(self, *command: object) -> int:
        self.commands.append(command)
        return 1


async def test_each_number_is_observed() -> None:
    """Also one that has not changed."""
    bus, seen = FakeBus(), list[int]()
    workers = WorkerCensus(cast("PipelinedRedis", bus), "p:", seen.append)

    await workers.count()
    await workers.count()

    assert (workers.workers, seen) == (3, [3, 3])
    assert bus.sent == ["p:workers", workers.id, 1000 * GONE_S]
    await WorkerCensus(cast("PipelinedRedis", bus), "p:").count()


async def test_registration_is_repeated_after_an_error_and_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error is logged; after `aclose` nothing is sent, and the entry is removed."""
    monkeypatch.setattr(census, "EVERY_S", 0.001)
    bus = FakeBus()
    bus.reply = RuntimeError("unexpected")
    workers = WorkerCensus(cast("PipelinedRedis", bus), "p:")
    with caplog.at_level(logging.ERROR):
        workers.start()
        await wait_until(lambda: bus.scripts > 1)
        bus.reply = 2
        await wait_until(lambda: workers.workers == 2)
        await asyncio.wait_for(workers.aclose(), 5)

    sent = bus.scripts
    await asyncio.sleep(0.01)
    assert bus.scripts == sent
    assert bus.commands == [("ZREM", "p:workers", workers.id)]
    assert {record.msg for record in caplog.records} == {"worker_census_failed"}
