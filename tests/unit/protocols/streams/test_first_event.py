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
CONTENT = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}\n\n'
DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"assistant"}}\n\n'
)
OPENAI_ERROR = b'data: {"error":{"message":"full","type":"server_error"}}\n\n'
ANTHROPIC_ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
COMMENTS = b": one\n\n: two\r\n\r\n"
EMPTY = {Wire.OPENAI: ROLE, Wire.ANTHROPIC: START}
FIRST = {Wire.OPENAI: CONTENT, Wire.ANTHROPIC: DELTA}
END = {
    Wire.OPENAI: b"data: [DONE]\n\n",
    Wire.ANTHROPIC: b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
}
ERROR = {Wire.OPENAI: OPENAI_ERROR, Wire.ANTHROPIC: ANTHROPIC_ERROR}
WIRES = pytest.mark.parametrize("wire", list(Wire))


def split(said: bytes, cuts: list[int]) -> list[bytes]:
    """Return the bytes cut at some places."""
    places = sorted({0, len(said), *(cut % (len(said) + 1) for cut in cuts)})
    return [said[a:b] for a, b in pairwise(places)]


@WIRES
@given(cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_answer_goes_through_as_it_came_however_it_is_cut(wire: Wire, cuts: list[int]) -> None:
    """With comments and empty events; nothing is lost and nothing is held after the content."""
    said = COMMENTS + EMPTY[wire] + FIRST[wire] + b"half an ev"
    opening = FirstEventGate(wire)
    out = b""
    for piece in split(said, cuts):
        out += piece if opening.is_open else opening.feed(piece)

    assert (out, opening.is_open, opening.error) == (said, True, None)


@WIRES
@given(cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_error_at_the_start_is_kept_however_it_is_cut(wire: Wire, cuts: list[int]) -> None:
    """The client gets nothing, the error's data is there to respond with."""
    opening = FirstEventGate(wire)
    said = COMMENTS + EMPTY[wire] + ERROR[wire]
    out = b"".join(opening.feed(piece) for piece in split(said, cuts))

    assert out == b""
    assert not opening.is_open
    assert opening.error == ERROR[wire].split(b"data: ")[1].strip()


@WIRES
@given(cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_stream_that_ends_without_content_is_empty(wire: Wire, cuts: list[int]) -> None:
    gate = FirstEventGate(wire)
    said = COMMENTS + EMPTY[wire] + END[wire]
    out = b"".join(gate.feed(piece) for piece in split(said, cuts))

    assert (out, gate.is_empty, gate.is_open, gate.error) == (b"", True, False, None)


@pytest.mark.parametrize(
    ("wire", "event"),
    [
        (Wire.OPENAI, b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'),
        (Wire.OPENAI, b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}'),
        (Wire.OPENAI, b'{"choices":[{"delta":{"reasoning_content":"Hm"}}]}'),
        (Wire.OPENAI, b'{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f"}}]}}]}'),
        (Wire.ANTHROPIC, b'{"type":"message_delta","delta":{"stop_reason":"end_turn"}}'),
        (
            Wire.ANTHROPIC,
            b'{"type":"content_block_start","index":0,'
            b'"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}',
        ),
    ],
)
def test_what_begins_a_response_beside_text(wire: Wire, event: bytes) -> None:
    said = EMPTY[wire] + b"data: " + event + b"\n\n"

    assert FirstEventGate(wire).feed(said) == said


@pytest.mark.parametrize(
    "error",
    [
        b'error: {"code":500,"message":"engine died","type":"x"}\n\n',
        b'data: {"object":"error","message":"engine died","code":500}\n\n',
        b'data: {"error":"engine died"}\n\n',
        b"event: error\ndata: engine died\n\n",
    ],
)
def test_errors_of_any_shape(error: bytes) -> None:
    """llama-box, vLLM before 0.9 and after, and others."""
    gate = FirstEventGate(Wire.OPENAI)

    assert gate.feed(ROLE + error) == b""
    assert gate.error is not None
    assert b"engine died" in gate.error


@WIRES
def test_error_after_the_first_event_is_not_looked_for(wire: Wire) -> None:
    """Once an event went out there is no way back."""
    opening = FirstEventGate(wire)

    assert opening.feed(FIRST[wire] + ERROR[wire]) == FIRST[wire] + ERROR[wire]
    assert opening.is_open


@WIRES
def test_word_error_in_the_first_event_is_no_error(wire: Wire) -> None:
    """Text may speak of errors."""
    said = FIRST[wire].replace(b"assistant", b"error")
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


def test_held_bytes_are_released_once() -> None:
    """After that the gate has nothing more to give."""
    gate = FirstEventGate(Wire.OPENAI)
    gate.feed(b": wait\n\n")

    assert (gate.release(), gate.release()) == (b": wait\n\n", b"")


def test_gate_without_held_bytes_opens_with_the_next_ones() -> None:
    """A byte order mark after the keep-alive that was sent is removed, once."""
    gate = FirstEventGate(Wire.OPENAI)

    assert (gate.release(), gate.is_open) == (b"", False)
    assert (gate.feed(b"\xef\xbb\xbf" + CONTENT), gate.is_open) == (CONTENT, True)
