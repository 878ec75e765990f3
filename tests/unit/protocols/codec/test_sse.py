"""The SSE decoder: any split of the bytes gives the same events."""

from __future__ import annotations

import itertools
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.sse import (
    DONE,
    MAX_DATA_LINES,
    Event,
    EventDecoder,
    anthropic_event,
    openai_data,
)


def decode(*chunks: bytes, limit_bytes: int = 1 << 20) -> list[Event]:
    """Decode the chunks to the end."""
    decoder = EventDecoder(limit_bytes)
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.end()


def cut(body: bytes, points: list[int]) -> list[bytes]:
    """Cut `body` at the points (modulo its length)."""
    at = sorted({point % (len(body) + 1) for point in points} | {0, len(body)})
    return [body[a:b] for a, b in itertools.pairwise(at)]


CASES: list[tuple[bytes, list[Event]]] = [
    (b"", []),
    (b"data: a\n\n", [Event(None, b"a")]),
    (b"data:a\n\ndata:  b\n\n", [Event(None, b"a"), Event(None, b" b")]),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", [Event(None, b"a"), Event(None, b"b")]),
    (b"data: a\r\rdata: b\r\r", [Event(None, b"a"), Event(None, b"b")]),
    (b"data: a\ndata: b\r\ndata: c\r\n\n", [Event(None, b"a\nb\nc")]),
    (b"\xef\xbb\xbfdata: a\n\n", [Event(None, b"a")]),
    (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    (b"\xef\xbb", []),
    (b": comment\n\ndata: a\n: in between\n\n", [Event(None, b"a")]),
    (b"event: x\n\ndata: a\n\n", [Event(None, b"a")]),
    (b"event: x\nevent: y\ndata: a\n\ndata: b\n\n", [Event(b"y", b"a"), Event(None, b"b")]),
    (b"event\ndata\n\n", [Event(b"", b"")]),
    (b"data:\n\n", [Event(None, b"")]),
    (b"id: 1\nretry: 5\nfoo: bar\ndatax: no\ndata : no\ndata: a\n\n", [Event(None, b"a")]),
    (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", [Event(None, b"a"), Event(None, b"b")]),
    (b"data: a\n\ndata: b", [Event(None, b"a"), Event(None, b"b")]),
    (b"data: a\n\nevent: e\ndata: b\r", [Event(None, b"a"), Event(b"e", b"b")]),
    (b"data: a\xe2\x80\xa8\x0b\x0c\x1c\n\n", [Event(None, b"a\xe2\x80\xa8\x0b\x0c\x1c")]),
    ("data: größe 🎉\n\n".encode(), [Event(None, "größe 🎉".encode())]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "events"), CASES)
def test_decoder_any_delivery_gives_the_events(body: bytes, events: list[Event]) -> None:
    """Whole, byte by byte and cut in two anywhere, the events are the same."""
    assert decode(body) == events
    assert decode(*[body[i : i + 1] for i in range(len(body))]) == events
    for at in range(len(body)):
        assert decode(body[:at], body[at:]) == events
        assert decode(b"data: first\n\n", body[:at], body[at:]) == decode(b"data: first\n\n" + body)


BOM = b"\xef\xbb\xbf"
pieces = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"event: e",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b": c",
        b"x",
        b"{}",
        BOM,
        b"\xc3",
    ]
)


@given(st.lists(pieces, max_size=40).map(b"".join), st.lists(st.integers(0, 10_000), max_size=12))
def test_decoder_split_anywhere_same_events(body: bytes, points: list[int]) -> None:
    """Where the network cuts has no meaning."""
    assert decode(*cut(body, points)) == decode(body)


@given(
    st.lists(pieces, max_size=40).map(b"".join),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.integers(3, 12),
)
def test_decoder_limit_split_anywhere_same_outcome(
    body: bytes, points: list[int], limit: int
) -> None:
    """Also what is too large does not depend on the cuts."""

    def outcome(chunks: list[bytes]) -> tuple[list[Event], bool]:
        decoder = EventDecoder(limit)
        events: list[Event] = []
        try:
            for chunk in chunks:
                events += decoder.feed(chunk)
            events += decoder.end()
        except GatewayError:
            return events, True
        return events, False

    assert outcome(cut(body, points)) == outcome([body])


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_decoder_arbitrary_bytes_raise_only_gateway_errors(chunks: list[bytes]) -> None:
    """No bytes can make the decoder fail in an unforeseen way."""
    try:
        decode(*chunks, limit_bytes=32)
    except GatewayError as error:
        assert error.kind is ErrorKind.UPSTREAM_MALFORMED


json_like = st.binary(max_size=50).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b""))


@given(st.lists(st.tuples(st.sampled_from([b"message_start", b"ping"]), json_like), max_size=6))
def test_writers_decoded_again_identity(pairs: list[tuple[bytes, bytes]]) -> None:
    """What the writers write, the decoder reads."""
    anthropic = b"".join(anthropic_event(name, data) for name, data in pairs)
    openai = b"".join(openai_data(data) for _, data in pairs)

    assert decode(anthropic) == [Event(name, data) for name, data in pairs]
    assert decode(openai + DONE) == [Event(None, data) for _, data in pairs] + [
        Event(None, b"[DONE]")
    ]


def test_decoder_line_of_the_limit_passes_and_one_more_fails() -> None:
    """The limit is exact, and events before the too large one are still delivered."""
    line = b"data: " + b"x" * 94
    assert decode(line + b"\n\n", limit_bytes=100) == [Event(None, b"x" * 94)]

    decoder = EventDecoder(100)
    assert decoder.feed(b"data: a\n\n" + line + b"x\n\n") == [Event(None, b"a")]
    with pytest.raises(GatewayError) as caught:
        decoder.feed(b"data: b\n\n")
    assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED
    with pytest.raises(GatewayError):
        decoder.end()


def test_decoder_data_lines_without_end_are_bounded() -> None:
    """Many short data lines of one event count together."""
    decoder = EventDecoder(1000)
    with pytest.raises(GatewayError):
        for _ in range(1000):
            decoder.feed(b"data: 0123456789\n")


def test_decoder_long_line_in_small_pieces_is_linear() -> None:
    """A line of 4 MB in pieces of 64 bytes costs about as much per byte as a short one."""
    decoder = EventDecoder()
    piece = b"x" * 64
    started = time.process_time()
    decoder.feed(b"data: ")
    for _ in range(65_536):
        decoder.feed(piece)
    [event] = decoder.feed(b"\n\n")

    assert len(event.data) == 64 * 65_536
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize("line", [b"data\n", b"data:\n", b"data: \r\n", b"data:x\n"])
@pytest.mark.parametrize("size", [7, 65_536])
def test_decoder_data_lines_of_one_event_are_counted(line: bytes, size: int) -> None:
    """Empty data lines have no bytes to count but take memory; the limit is exact."""
    most = line * MAX_DATA_LINES
    chunks = [most[at : at + size] for at in range(0, len(most), size)]
    decoder = EventDecoder()
    for chunk in chunks:
        assert decoder.feed(chunk) == []

    with pytest.raises(GatewayError) as caught:
        decoder.feed(line + b"\n")

    assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED
    [event] = decode(most + b"\n", limit_bytes=1 << 23)
    assert event.data.count(b"\n") == MAX_DATA_LINES - 1


@pytest.mark.parametrize(
    "line", [b"data:\n", b":\n", b"event:\n", b"id:\n", b"retry: 1\n", b"data:\n\n", b"x"]
)
@pytest.mark.parametrize("size", [2, 65_536])
def test_decoder_holds_little_beyond_its_limit(line: bytes, size: int) -> None:
    """Whatever an upstream repeats, and in whatever pieces it comes, memory follows the limit."""
    limit = 1 << 15 if size == 2 else 1 << 18
    body = line * (4 * limit // len(line))
    decoder = EventDecoder(limit)

    tracemalloc.start()
    try:
        for at in range(0, len(body), size):
            decoder.feed(body[at : at + size])
    except GatewayError:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 9 * limit
