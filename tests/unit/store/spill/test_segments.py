"""Spill segments: what is in them after crashes, full disks and several replayers."""

from __future__ import annotations

import logging
import resource
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.store.spill.segments import (
    Segment,
    SpillFullError,
    SpillQueue,
    SpillWriter,
    measure,
    segments,
)
from gateway.telemetry.metrics import Metrics

LINES = st.lists(st.binary(min_size=1, max_size=40).map(lambda b: b.replace(b"\n", b" ")))


def read_all(directory: Path, count: int = 3) -> list[bytes]:
    """Return all lines of all free segments, read `count` at a time."""
    lines: list[bytes] = []
    for path in segments(directory):
        segment = Segment.claim(path)
        assert segment is not None
        while batch := segment.read(count):
            lines += batch
        segment.release()
    return lines


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Make the kernel refuse to let any file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(lines=LINES, cut=st.integers(min_value=0), count=st.integers(1, 5))
def test_segment_cut_anywhere_keeps_every_whole_line(
    lines: list[bytes], cut: int, count: int
) -> None:
    """Complete lines are read; an incomplete last line is not."""
    with tempfile.TemporaryDirectory() as home:
        directory = Path(home)
        content = b"".join(line + b"\n" for line in lines)
        kept = content[: cut % (len(content) + 1)]
        writer = SpillWriter(directory)
        writer.write(content)
        writer.close()
        segments(directory)[0].write_bytes(kept)

        assert read_all(directory, count) == lines[: kept.count(b"\n")]


def test_segment_with_a_torn_line_logs_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An incomplete last line is logged with its size."""
    (tmp_path / "usage_0.jsonl").write_bytes(b'{"a":1}\n{"b"')

    with caplog.at_level(logging.ERROR):
        lines = read_all(tmp_path)

    assert lines == [b'{"a":1}']
    (record,) = caplog.records
    assert record.__dict__["size_bytes"] == 4


def test_segment_of_four_mebibytes_is_complete(tmp_path: Path) -> None:
    """A segment takes lines until it holds 4 MiB, and is then free for replay."""
    writer = SpillWriter(tmp_path)

    writer.write(b"a" * (4 * 2**20 - 2) + b"\n")
    open_below = Segment.claim(segments(tmp_path)[0])
    writer.write(b"\n")
    writer.write(b"b\n")
    first, second = segments(tmp_path)

    assert open_below is None
    assert first.stat().st_size == 4 * 2**20
    assert second.read_bytes() == b"b\n"


async def test_queue_takes_sixteen_mebibytes_and_counts_what_is_lost(tmp_path: Path) -> None:
    """Lines wait for the disk up to 16 MiB; one beyond that is counted as lost at once."""
    metrics = Metrics(CollectorRegistry())
    queue = SpillQueue(SpillWriter(tmp_path), metrics)

    kept = queue.keep(b"a" * 16 * 2**20)
    lost = queue.keep(b"b")
    was_lost_at_once = lost.done() and not kept.done()
    await queue.drain()

    assert was_lost_at_once
    assert kept.done()
    assert measure(tmp_path).size_bytes == 16 * 2**20 + 1
    assert metrics.usage_lost._value.get() == 1
    assert metrics.usage_spilled._value.get() == 1


def test_segment_belongs_to_its_writer_until_closed(tmp_path: Path) -> None:
    """A segment cannot be claimed while its writer has it open."""
    writer = SpillWriter(tmp_path)
    writer.write(b"a\n")
    (path,) = segments(tmp_path)

    assert Segment.claim(path) is None
    writer.close()
    claimed = Segment.claim(path)

    assert claimed is not None
    assert claimed.read(10) == [b"a"]
    claimed.release()


def test_segment_claimed_by_one_is_refused_to_another(tmp_path: Path) -> None:
    """Two workers do not replay the same segment."""
    (tmp_path / "usage_0.jsonl").write_bytes(b"a\n")
    (path,) = segments(tmp_path)

    first = Segment.claim(path)
    second = Segment.claim(path)
    assert first is not None
    first.remove()
    first.release()

    assert second is None
    assert Segment.claim(path) is None
    assert segments(tmp_path) == []


def test_spill_writer_makes_private_files_and_reports_their_size(tmp_path: Path) -> None:
    """Only the owner may read segments; their size is reported."""
    directory = tmp_path / "data" / "spill"
    writer = SpillWriter(directory)

    total = writer.write(b"one\ntwo\n")
    writer.close()

    assert total == 8
    assert measure(directory)[:2] == (1, 8)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(segments(directory)[0].stat().st_mode) == 0o600


def test_spill_writer_begins_a_new_segment_when_one_is_long(tmp_path: Path) -> None:
    """A long outage makes many segments, the oldest first."""
    writer = SpillWriter(tmp_path, segment_bytes=8)

    for line in (b"1234567\n", b"a\n", b"b\n", b"7654321\n", b"c\n"):
        writer.write(line)
    writer.close()

    assert measure(tmp_path).files == 3
    assert sorted(read_all(tmp_path)) == [b"1234567", b"7654321", b"a", b"b", b"c"]


def test_spill_writer_at_its_limit_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    """The limit counts all segments, and a refused batch leaves no trace."""
    (tmp_path / "usage_0.jsonl").write_bytes(b"12345\n")
    writer = SpillWriter(tmp_path, limit_bytes=10)

    writer.write(b"abc\n")
    with pytest.raises(SpillFullError):
        writer.write(b"x\n")
    writer.close()

    assert measure(tmp_path).size_bytes == 10
    assert sorted(read_all(tmp_path)) == [b"12345", b"abc"]


def test_spill_writer_on_a_disk_that_takes_half_a_line_cuts_it_off(tmp_path: Path) -> None:
    """What follows a failed write is not glued to its remains."""
    writer = SpillWriter(tmp_path)
    writer.write(b"whole\n")

    with file_size_limit(10), pytest.raises(OSError, match="File too large"):
        writer.write(b"half of this\n")
    writer.write(b"later\n")
    writer.close()

    assert sorted(read_all(tmp_path)) == [b"later", b"whole"]


def test_segments_of_a_missing_directory_are_none(tmp_path: Path) -> None:
    """A missing directory has no segments."""
    assert segments(tmp_path / "none") == []
    assert measure(tmp_path / "none") == (0, 0, None)
