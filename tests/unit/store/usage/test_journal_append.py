"""The journal of calls with a Redis that comes and goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ErrorKind, GatewayError
from gateway.store.hot_state.redis_schema import RedisKeys
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError
from gateway.store.redis.shards import shard_of
from gateway.store.spill.segments import SpillWriter, segments
from gateway.store.usage.journal import dead_letter_key
from tests.support.journal import FakeBus, make_stream, spilled
from tests.support.usage import encoded, usage_event
from tests.support.waiting import wait_until


async def test_append_is_one_script_in_the_shard_of_the_account(tmp_path: Path) -> None:
    """An event, what it cost and what it used go to Redis in one round trip."""
    bus = FakeBus()
    stream, _ = make_stream(bus, tmp_path)
    event = usage_event(cost_nanousd=70)

    await stream.append(event)
    await stream.aclose()

    tag = b"capio:{s%d}" % shard_of("acct_1")
    assert bus.settled == [
        (
            tuple(tag + name for name in (b"calls", b"leases", b"queued", b"usage")),
            (
                "req_1", "acct_1", "key_1", "deepseek-v4-flash", event.at_ms, 70, 35,
                encoded(event), b"",
            ),
        )
    ]  # fmt: skip
    assert spilled(tmp_path) == []


@pytest.mark.parametrize("failure", [RedisUnavailable("open"), ReplyError("OOM used > maxmemory")])
async def test_append_without_redis_is_on_disk_at_return(
    tmp_path: Path, failure: Exception
) -> None:
    """Redis away or refusing: the event is in a file before `append` returns."""
    bus = FakeBus()
    bus.failure = failure
    stream, metrics = make_stream(bus, tmp_path)

    await stream.append(usage_event())

    assert spilled(tmp_path) == [encoded(usage_event())]
    assert metrics.usage_spilled._value.get() == 1
    assert metrics.spill_bytes._value.get() == len(encoded(usage_event())) + 1
    await stream.aclose()
    assert spilled(tmp_path) == [encoded(usage_event())]


async def test_append_of_many_at_once_shares_the_syncs(tmp_path: Path) -> None:
    """Concurrent events do not wait for the disk one by one."""
    bus = FakeBus()
    bus.failure = RedisUnavailable("open")
    writer = CountingWriter(tmp_path / "spill")
    stream, _ = make_stream(bus, tmp_path, spill=writer)

    await asyncio.gather(*[stream.append(usage_event(f"req_{n}")) for n in range(500)])
    await stream.aclose()

    assert len(spilled(tmp_path)) == 500
    assert writer.writes <= 3


class CountingWriter(SpillWriter):
    writes = 0

    def write(self, lines: bytes) -> int:
        self.writes += 1
        return super().write(lines)


async def test_append_cancelled_while_redis_is_silent_still_spills(tmp_path: Path) -> None:
    """The event of a cancelled append is written to disk."""
    bus = FakeBus()
    bus.answer.clear()
    stream, _ = make_stream(bus, tmp_path)
    appending = asyncio.create_task(stream.append(usage_event()))
    await asyncio.sleep(0)

    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    await wait_until(lambda: spilled(tmp_path))

    assert spilled(tmp_path) == [encoded(usage_event())]
    bus.answer.set()
    bus.failure = RedisUnavailable("closed")
    await stream.aclose()


async def test_append_that_nobody_takes_is_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither Redis nor the disk: `append` returns, a metric counts, one line says why."""
    bus = FakeBus()
    bus.failure = RedisUnavailable("open")
    (tmp_path / "spill").write_bytes(b"a file where the directory should be")
    stream, metrics = make_stream(bus, tmp_path)

    with caplog.at_level(logging.ERROR):
        await stream.append(usage_event("req_1"))
        await stream.append(usage_event("req_2"))

    assert metrics.usage_lost._value.get() == 2
    assert [record.getMessage() for record in caplog.records] == ["usage_events_lost"]


async def test_append_of_what_has_no_json_form_is_counted(tmp_path: Path) -> None:
    """An event that cannot be written at all does not raise either."""
    stream, metrics = make_stream(FakeBus(), tmp_path)

    await stream.append(usage_event(user_agent="\ud800"))
    await stream.aclose()

    assert metrics.usage_lost._value.get() == 1


async def test_started_stream_replays_when_redis_is_back(tmp_path: Path) -> None:
    """What was spilled reaches the stream by itself, and its file goes."""
    bus = FakeBus()
    bus.failure = RedisUnavailable("open")
    stream, metrics = make_stream(bus, tmp_path)
    stream.start()
    for n in range(250):
        await stream.append(usage_event(f"req_{n}"))

    bus.failure = None
    await wait_until(lambda: len(bus.settled) == 250 and not spilled(tmp_path))

    assert sorted(bus.request_ids) == sorted(f"req_{n}" for n in range(250))
    await wait_until(lambda: metrics.spill_bytes._value.get() == 0)
    await stream.aclose()


async def test_started_stream_replays_files_of_dead_processes(tmp_path: Path) -> None:
    """An unlocked segment of any process is replayed, without its incomplete last line."""
    (tmp_path / "spill").mkdir()
    lines = encoded(usage_event("req_1")) + b"\n" + encoded(usage_event("req_2")) + b"\n"
    (tmp_path / "spill" / "usage_0dead.jsonl").write_bytes(lines + b'{"request_id":"re')
    bus = FakeBus()
    stream, _ = make_stream(bus, tmp_path)

    stream.start()
    await wait_until(lambda: not segments(tmp_path / "spill"))
    await stream.aclose()

    assert bus.request_ids == ["req_1", "req_2"]


async def test_replay_that_breaks_off_keeps_the_file(tmp_path: Path) -> None:
    """A segment is removed only when all of it was taken."""
    bus = FakeBus()
    bus.failure = RedisUnavailable("open")
    stream, _ = make_stream(bus, tmp_path)
    await stream.append(usage_event())

    bus.failure = ReplyError("READONLY a replica")
    await stream.aclose()

    assert spilled(tmp_path) == [encoded(usage_event())]


async def test_shard_that_is_full_makes_events_spill_until_it_is_not(tmp_path: Path) -> None:
    """Events are written to disk while the stream is at its limit; the stream is not trimmed."""
    bus = FakeBus()
    bus.length = 10
    stream, _ = make_stream(bus, tmp_path, shard_full=10)
    stream.start()

    await stream.append(usage_event())
    assert (bus.settled, len(spilled(tmp_path))) == ([], 1)
    bus.length = 9
    await stream.append(usage_event("req_2"))
    assert bus.request_ids == ["req_2"]
    bus.length = 7
    await wait_until(lambda: len(bus.settled) == 2)
    await stream.aclose()

    assert bus.request_ids == ["req_2", "req_1"]


async def test_line_that_is_no_event_is_set_aside(tmp_path: Path) -> None:
    """A line that is no event is set aside and the next ones are replayed."""
    (tmp_path / "spill").mkdir()
    (tmp_path / "spill" / "usage_0dead.jsonl").write_bytes(
        b'{"not":"an event"}\n' + encoded(usage_event()) + b"\n"
    )
    bus = FakeBus()
    stream, _ = make_stream(bus, tmp_path)

    await stream.aclose()

    assert bus.request_ids == ["req_1"]
    assert [command[:8] for command in bus.commands] == [
        (b"XADD", "capio:usage:dead", b"MAXLEN", b"~", 100_000, b"*", b"e", b'{"not":"an event"}')
    ]


async def test_redis_that_lost_its_state_gets_the_last_events_again(tmp_path: Path) -> None:
    """What waited in the lost streams and is not in SQL is appended again."""

    async def stored(request_ids: Sequence[str]) -> set[str]:
        return {"req_1"} & set(request_ids)

    bus = FakeBus()
    stream, _ = make_stream(bus, tmp_path, stored=stored)
    for n in range(1, 4):
        await stream.append(usage_event(f"req_{n}"))
    await stream.append(usage_event("req_4", account_id="acct_2"))
    bus.settled.clear()
    bus.epoch = b"req_5"

    await stream.append(usage_event("req_5"))
    await stream.aclose()

    assert sorted(bus.request_ids) == ["req_2", "req_3", "req_4", "req_5", "req_5"]


async def test_lost_events_are_appended_when_sql_cannot_be_asked(tmp_path: Path) -> None:
    """If SQL is unreachable, all recent events are appended again; SQL ignores duplicates."""

    async def stored(request_ids: Sequence[str]) -> set[str]:
        raise GatewayError(ErrorKind.STORE_UNAVAILABLE, "")

    bus = FakeBus()
    stream, _ = make_stream(bus, tmp_path, stored=stored)
    await stream.append(usage_event("req_1"))
    bus.settled.clear()

    stream.resend_recent()
    bus.failure = RedisUnavailable("lost")
    stream.start()
    await asyncio.sleep(0)
    bus.failure = None
    await stream.aclose()

    assert bus.request_ids == ["req_1"]


async def test_redis_that_comes_and_goes_gets_the_last_events_again_only_now_and_then(
    tmp_path: Path,
) -> None:
    """A flapping connection is no reason to send everything every time."""
    bus = FakeBus()
    stream, _ = make_stream(bus, tmp_path)
    await stream.append(usage_event("req_1"))
    bus.settled.clear()
    stream.start()

    stream.resend_recent()
    await wait_until(lambda: len(bus.settled) == 1)
    stream.resend_recent()
    await wait_until(lambda: not stream._wake.is_set())
    assert bus.request_ids == ["req_1"]
    await stream.aclose()

    assert bus.request_ids == ["req_1", "req_1"]


async def test_no_epoch_after_one_is_a_loss(tmp_path: Path) -> None:
    """A missing epoch after a known one means that Redis lost its contents."""
    bus = FakeBus()
    stream, _ = make_stream(bus, tmp_path)
    await stream.append(usage_event("req_1"))
    shard = shard_of("acct_1")
    bus.settled.clear()

    stream.observe_epoch(shard, b"req_0")
    assert stream._lost == set()
    stream.observe_epoch(shard, None)
    await stream.aclose()

    assert bus.request_ids == ["req_1"]


async def test_aclose_sends_what_was_spilled(tmp_path: Path) -> None:
    """`aclose` replays spilled events if Redis is available."""
    bus = FakeBus()
    bus.failure = RedisUnavailable("open")
    stream, _ = make_stream(bus, tmp_path)
    await stream.append(usage_event())

    bus.failure = None
    await stream.aclose()

    assert bus.request_ids == ["req_1"]
    assert segments(tmp_path / "spill") == []


@settings(max_examples=20)
@given(weather=st.lists(st.booleans(), min_size=1, max_size=30))
def test_every_event_is_in_redis_after_any_outages(
    weather: list[bool], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whenever Redis comes and goes, in the end each event was added at least once."""

    async def story(home: Path) -> set[str]:
        bus = FakeBus()
        stream, _ = make_stream(bus, home)
        for n, up in enumerate(weather):
            bus.failure = None if up else RedisUnavailable("lost")
            await stream.append(usage_event(f"req_{n}"))
            if n % 7 == 6:
                await stream._replay.run(stream._redis) if up else None
        bus.failure = None
        await stream.aclose()
        return set(bus.request_ids)

    seen = asyncio.run(story(tmp_path_factory.mktemp("spill")))

    assert seen == {f"req_{n}" for n in range(len(weather))}


def test_stream_names_carry_the_prefix_and_the_shard() -> None:
    """A shard's keys share a hash tag."""
    assert RedisKeys("capio:").shards[17].usage == b"capio:{s17}usage"
    assert dead_letter_key("capio:") == "capio:usage:dead"
