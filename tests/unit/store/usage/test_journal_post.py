"""Events of calls that are posted without waiting for Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError
from tests.support.journal import FakeBus, make_stream, spilled
from tests.support.usage import encoded, usage_event
from tests.support.waiting import wait_until


async def test_posted_events_share_a_script_after_the_first(tmp_path: Path) -> None:
    """`post` does not wait; events of 2 ms go in one script, of 64 at most, in their order."""
    bus = FakeBus()
    stream, _ = make_stream(bus, tmp_path)

    await stream.post(usage_event("req_0"))
    assert bus.settled == []
    await wait_until(lambda: bus.scripts == 1)
    for n in range(1, 101):
        await stream.post(usage_event(f"req_{n}"))
    waiting = stream.settlements.pending
    await wait_until(lambda: stream.settlements.pending == 0)

    assert waiting == 100
    assert bus.scripts == 3
    assert bus.request_ids == [f"req_{n}" for n in range(101)]
    await stream.aclose()


async def test_two_events_of_a_call_go_in_two_scripts(tmp_path: Path) -> None:
    """A script that knows a call once cannot confuse its two events."""
    bus = FakeBus()
    stream, _ = make_stream(bus, tmp_path)

    await stream.post(usage_event("req_1", outcome="abandoned"))
    await stream.post(usage_event("req_1"))
    await stream.aclose()

    assert (bus.scripts, bus.request_ids) == (2, ["req_1", "req_1"])
    assert [args[-1] for _, args in bus.settled] == [b"1", b""]


async def test_aclose_sends_what_was_posted(tmp_path: Path) -> None:
    """Gathered events are sent before the worker ends."""
    bus = FakeBus()
    stream, _ = make_stream(bus, tmp_path)

    for n in range(3):
        await stream.post(usage_event(f"req_{n}"))
    await stream.aclose()

    assert bus.request_ids == ["req_0", "req_1", "req_2"]
    assert spilled(tmp_path) == []


@pytest.mark.parametrize("failure", [RedisUnavailable("open"), ReplyError("OOM used > maxmemory")])
async def test_posted_events_are_spilled_without_redis(tmp_path: Path, failure: Exception) -> None:
    """What Redis does not accept is on disk soon, or at the latest after `aclose`."""
    bus = FakeBus()
    bus.failure = failure
    stream, metrics = make_stream(bus, tmp_path)

    for n in range(3):
        await stream.post(usage_event(f"req_{n}"))
    await stream.aclose()

    assert spilled(tmp_path) == [encoded(usage_event(f"req_{n}")) for n in range(3)]
    assert metrics.usage_spilled._value.get() == 3


async def test_posted_event_that_is_refused_is_a_dead_letter(tmp_path: Path) -> None:
    """An error of the script about one call, or a cost that no call can have."""
    bus = FakeBus()
    bus.result = b"ERR malformed"
    stream, metrics = make_stream(bus, tmp_path)

    await stream.post(usage_event("req_1"))
    await wait_until(lambda: metrics.usage_refused._value.get() == 1)
    bus.result = 1
    await stream.post(usage_event("req_2", cost_nanousd=-1))
    await stream.aclose()

    assert [(command[1], command[-1]) for command in bus.commands] == [
        ("capio:usage:dead", "ERR malformed"),
        ("capio:usage:dead", "its cost is negative or beyond what one call can cost"),
    ]
    assert metrics.usage_refused._value.get() == 2
    assert spilled(tmp_path) == []


async def test_event_beyond_the_queue_is_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than MOST_POSTED events wait in memory for a silent Redis."""
    monkeypatch.setattr("gateway.store.usage.journal.MOST_POSTED", 2)
    bus = FakeBus()
    bus.answer.clear()
    stream, _ = make_stream(bus, tmp_path)
    await stream.post(usage_event("req_1"))
    await stream.post(usage_event("req_2"))

    third = asyncio.create_task(stream.post(usage_event("req_3")))
    await asyncio.sleep(0.01)
    waited = not third.done()
    bus.answer.set()
    await third
    await stream.aclose()

    assert waited
    assert bus.request_ids == ["req_1", "req_2", "req_3"]
