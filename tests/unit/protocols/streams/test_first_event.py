"""A stream's first event decides: comments wait for it, an error is kept from the client."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Wire
from gateway.protocols.streams.first_event import HELD_BYTES, FirstEventGate

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
START = b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n'
OPENAI_ERROR = b'data: {"error":{"message":"full","type":"server_error"}}\n\n'
ANTHROPIC_ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
COMMENTS = b": one\n\n: two\r\n\r\n"
FIRST = {Wire.OPENAI: ROLE, Wire.ANTHROPIC: START}
ERROR = {Wire.OPENAI: OPENAI_ERROR, Wire.ANTHROPIC: ANTHROPIC_ERROR}
WIRES = pytest.mark.parametrize("wire", list(Wire))


def split(said: bytes, cuts: list[int]) -> list[bytes]:
    """Return the bytes cut at some places."""
    places = sorted({0, len(said), *(cut % (len(said) + 1) for cut in cuts)})
    return [said[a:b] for a, b in pairwise(places)]


@WIRES
@given(cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_answer_goes_through_as_it_came_however_it_is_cut(wire: Wire, cuts: list[int]) -> None:
    """Comments before the first event included; nothing is lost and nothing is held after it."""
    said = COMMENTS + FIRST[wire] + b"half an ev"
    opening = FirstEventGate(wire)
    out = b""
    for piece in split(said, cuts):
        out += piece if opening.is_open else opening.feed(piece)

    assert (out, opening.is_open, opening.error) == (said, True, None)


@WIRES
@given(cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_error_at_the_start_is_kept_however_it_is_cut(wire: Wire, cuts: list[int]) -> None:
    """The client gets nothing, the error's data is there to answer with."""
    opening = FirstEventGate(wire)
    out = b"".join(opening.feed(piece) for piece in split(COMMENTS + ERROR[wire], cuts))

    assert out == b""
    assert not opening.is_open
    assert opening.error == ERROR[wire].split(b"data: ")[1].strip()


@WIRES
def test_error_after_the_first_event_is_not_looked_for(wire: Wire) -> None:
    """Once an event went out there is no way back."""
    opening = FirstEventGate(wire)

    assert opening.feed(FIRST[wire] + ERROR[wire]) == FIRST[wire] + ERROR[wire]
    assert opening.is_open


@WIRES
def test_word_error_in_the_first_event_is_no_error(wire: Wire) -> None:
    """Text may speak of errors."""
    said = FIRST[wire].replace(b"assistant", b"error").replace(b"{}", b'{"id":"error"}')
    opening = FirstEventGate(wire)

    assert opening.feed(said) == said


@WIRES
def test_last_event_without_its_end_counts(wire: Wire) -> None:
    """Several servers leave out the last blank line."""
    answer, error, empty = FirstEventGate(wire), FirstEventGate(wire), FirstEventGate(wire)

    answer.feed(FIRST[wire][:-2])
    error.feed(ERROR[wire][:-2])
    empty.feed(COMMENTS)

    assert answer.end() == FIRST[wire][:-2]
    assert (error.end(), error.error is not None) == (b"", True)
    assert (empty.end(), empty.is_open) == (b"", False)


def test_comments_are_held_up_to_the_limit() -> None:
    """What waits is bounded."""
    opening = FirstEventGate(Wire.OPENAI)
    comment = b": " + b"x" * (HELD_BYTES // 4 - 4) + b"\n\n"

    out = b"".join(opening.feed(comment) for _ in range(4))
    assert (out, opening.is_open) == (b"", False)
    assert opening.feed(comment) == comment * 5
    assert opening.is_open
