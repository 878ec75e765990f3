"""Whole events are removed, wherever reads end; tests of single filters are in their own files."""

from __future__ import annotations

import pytest

from gateway.protocols.codec.event_filter import EventFilter, at_event_boundary, decoded_event
from gateway.protocols.codec.sse import Event

KEPT, REMOVED = b"event: a\ndata: 1\n\n", b"event: b\ndata: 2\n\n"


class _WithoutB(EventFilter):
    __slots__ = ()

    def is_plain(self, events: bytes) -> bool:
        return b"event: b" not in events

    def removes(self, event: bytes) -> bool:
        return True


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_event_is_removed_however_it_is_cut(ending: bytes, size: int) -> None:
    body = (KEPT + REMOVED + b": c\n\n" + REMOVED + KEPT).replace(b"\n", ending)
    events = _WithoutB()

    shown = b"".join(events.feed(body[at : at + size]) for at in range(0, len(body), size))

    assert shown + events.end() == (KEPT + b": c\n\n" + KEPT).replace(b"\n", ending)


def test_incomplete_event_is_held_and_dropped_if_the_stream_was_cut_off() -> None:
    events = _WithoutB()

    assert events.feed(KEPT + KEPT[:5]) == KEPT
    assert events.feed(KEPT[5:] + KEPT[:3]) == KEPT
    assert events.end(clean=False) == b""


@pytest.mark.parametrize(
    ("event", "decoded"),
    [
        (KEPT, Event(b"a", b"1")),
        (KEPT.rstrip(), Event(b"a", b"1")),
        (b": comment\n\n", None),
        (KEPT + KEPT, None),
    ],
)
def test_one_event_is_decoded(event: bytes, decoded: Event | None) -> None:
    assert decoded_event(event) == decoded


@pytest.mark.parametrize(
    ("previous", "last", "boundary"),
    [
        (b"", b"", True),
        (b"", b"data: a\n\n", True),
        (b"data: a\n", b"\n", True),
        (b"data: a\r\n\r", b"\n", True),
        (b"data: a\r", b"\r", True),
        (b"data: a\n\r", b"\n", True),
        (b"", b"data: a\r\n", False),
        (b"data: a\r", b"\n", False),
        (b"", b"data: a\n", False),
        (b"data: a\n\n", b"d", False),
    ],
)
def test_at_event_boundary_tells_a_blank_line(previous: bytes, last: bytes, boundary: bool) -> None:
    """Only after a blank line, in any line ending, may an event be added."""
    assert at_event_boundary(previous, last) is boundary
