"""Replay of spilled events: to one of two destinations, each with its own rejections."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.errors import ErrorKind, GatewayError
from gateway.store.spill.replay import Destination, EventKeptError, SpillReplay
from gateway.store.spill.segments import SpillQueue, SpillWriter, segments
from gateway.telemetry.metrics import Metrics


class Store:
    """What arrives, and what it does with a line."""

    def __init__(self, *, rejects: bytes = b"", full: bool = False) -> None:
        self.lines: list[bytes] = []
        self.rejects = rejects
        self.full = full
        self.failure: Exception | None = None

    async def add(self, lines: list[bytes]) -> bool:
        if self.failure is not None:
            raise self.failure
        self.lines += lines
        if self.rejects in lines:
            raise EventKeptError("never")
        return not self.full


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def replay(tmp_path: Path, metrics: Metrics) -> SpillReplay:
    """Two segments of dead processes."""
    (tmp_path / "usage_0.jsonl").write_bytes(b"a\nb\nc\n")
    (tmp_path / "usage_1.jsonl").write_bytes(b"d\n")
    return SpillReplay(tmp_path, SpillQueue(SpillWriter(tmp_path), metrics), metrics)


async def test_segments_are_sent_in_order_and_removed(replay: SpillReplay, tmp_path: Path) -> None:
    """The run says that nothing is left to send."""
    store = Store()

    complete = await replay.run(Destination("sql", store.add, 2, retries=False))

    assert complete
    assert store.lines == [b"a", b"b", b"c", b"d"]
    assert segments(tmp_path) == []


@pytest.mark.parametrize("failure", [None, GatewayError(ErrorKind.STORE_UNAVAILABLE, "away")])
async def test_store_without_room_or_away_ends_the_run(
    replay: SpillReplay, tmp_path: Path, failure: Exception | None
) -> None:
    """All segments stay, and the run says so."""
    store = Store(full=True)
    store.failure = failure

    complete = await replay.run(Destination("sql", store.add, 2, retries=False))

    assert not complete
    assert len(segments(tmp_path)) == 2


@pytest.mark.parametrize(("retries", "sent"), [(True, 6), (False, 3)])
async def test_rejected_event_keeps_its_segment_only(
    replay: SpillReplay, tmp_path: Path, *, retries: bool, sent: int
) -> None:
    """SQL is not asked again about the same segment every second; Redis may have changed."""
    (tmp_path / "usage_1.jsonl").unlink()
    store = Store(rejects=b"b")
    to = Destination("store", store.add, 2, retries=retries)

    assert await replay.run(to)
    assert await replay.run(to)

    assert len(store.lines) == sent
    assert [path.name for path in segments(tmp_path)] == ["usage_0.jsonl"]


async def test_results_are_logged_and_measured(
    replay: SpillReplay, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    """Each segment that was sent, and once a segment that cannot be; the gauge has the rest."""
    to = Destination("sql", Store(rejects=b"d").add, 2, retries=True)
    with caplog.at_level(logging.INFO):
        await replay.run(to)
        await replay.run(to)

    logged = [
        (line.msg, line.__dict__["file"], line.__dict__.get("events")) for line in caplog.records
    ]
    assert logged == [
        ("usage_events_replayed", "usage_0.jsonl", 3),
        ("spill_segment_replay_failed", "usage_1.jsonl", None),
    ]
    assert metrics.spill_bytes._value.get() == len(b"d\n")
