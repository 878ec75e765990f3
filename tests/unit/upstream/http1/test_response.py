"""Delivery of an HTTP/1.1 response body while pausing, closing and reading."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import ErrorKind, GatewayError
from tests.support.upstream_fakes import RecordingSink, Wire, answered, turn

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH_10 = OK + b"Content-Length: 10\r\n\r\n"


# The body.


async def test_body_bytes_of_one_read_come_as_one_chunk() -> None:
    """Three HTTP chunks in one network read are one call of the sink."""
    wire, sink = await answered(CHUNKED)

    wire.feed(b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n")
    wire.feed(b"1\r\ng\r\n0\r\n\r\n")

    assert sink.chunks == [b"abcdef", b"g"]
    assert sink.end == "complete"


async def test_body_of_a_known_length_is_not_copied() -> None:
    """A read that is all body reaches the sink as the very object the loop made."""
    wire, sink = await answered(LENGTH_10)
    first, last = bytes(bytearray(b"01234")), bytes(bytearray(b"56789"))

    wire.feed(first)
    wire.feed(last)

    assert sink.chunks[0] is first
    assert sink.chunks[1] is last


async def test_body_that_comes_before_start_waits_with_reading_paused() -> None:
    """Bytes after the head are buffered; the socket is not read before `start`."""
    wire = Wire()
    await wire.ask()

    wire.feed(CHUNKED + b"1\r\na\r\n")
    assert not wire.transport.reading
    response = await wire.response()
    sink = RecordingSink()
    response.start(sink)
    assert sink.chunks == []
    await turn()

    assert sink.chunks == [b"a"]
    assert wire.transport.reading


async def test_head_alone_leaves_reading_on_until_body_bytes_come() -> None:
    """The usual stream, whose first chunk follows its head, pays for no pause."""
    wire = Wire()
    await wire.ask()
    wire.feed(CHUNKED)
    assert wire.transport.reading

    wire.feed(b"1\r\na\r\n")

    assert not wire.transport.reading
    (await wire.response()).close()


async def test_paused_sink_hears_nothing_until_resume_returns() -> None:
    """Bytes that were under way when the sink paused wait, and come after `resume`."""
    wire, sink = await answered(CHUNKED)
    response = await wire.response()

    response.pause()
    response.pause()
    assert not wire.transport.reading
    wire.feed(b"1\r\na\r\n")
    wire.feed(b"1\r\nb\r\n")
    assert sink.chunks == []
    response.resume()
    response.resume()
    assert sink.chunks == []
    await turn()

    assert sink.chunks == [b"ab"]
    assert wire.transport.reading
    wire.feed(b"1\r\nc\r\n")
    assert sink.chunks == [b"ab", b"c"]
    response.close()


async def test_pause_before_start_holds_the_body_back() -> None:
    """`start` on a paused response pushes nothing."""
    wire = Wire()
    await wire.ask()
    wire.feed(LENGTH_10 + b"0123456789")
    response = await wire.response()
    sink = RecordingSink()

    response.pause()
    response.start(sink)
    await turn()
    assert sink.chunks == []
    response.resume()
    await turn()

    assert (sink.body, sink.end) == (b"0123456789", "complete")


async def test_pause_in_the_last_chunk_holds_the_end_back() -> None:
    """The end is reported after `resume`; the connection is released before."""
    wire, sink = await answered(CHUNKED)
    response = await wire.response()
    sink.on_chunk = lambda _: response.pause()

    wire.feed(b"2\r\nok\r\n0\r\n\r\n")
    await turn()
    assert (sink.body, sink.end) == (b"ok", "")
    assert wire.pool.released_count == 1
    assert wire.transport.reading
    response.resume()
    assert sink.end == ""
    await turn()

    assert sink.end == "complete"


async def test_pause_and_resume_inside_the_last_chunk_still_end() -> None:
    """A sink that pauses and resumes immediately still receives the end."""
    wire, sink = await answered(CHUNKED)
    response = await wire.response()

    def hiccup(_: bytes) -> None:
        response.pause()
        response.resume()

    sink.on_chunk = hiccup
    wire.feed(b"1\r\na\r\n")
    wire.feed(b"2\r\nok\r\n0\r\n\r\n")
    await turn()

    assert (sink.body, sink.end) == (b"aok", "complete")


async def test_failure_while_paused_is_told_after_what_waits() -> None:
    """A body that breaks while its sink is paused gives its bytes first, then the failure."""
    wire, sink = await answered(CHUNKED)
    response = await wire.response()
    response.pause()

    wire.feed(b"1\r\na\r\n")
    wire.hang_up(ConnectionResetError())
    await turn()
    assert (sink.body, sink.end) == (b"", "")
    response.resume()
    await turn()

    assert (sink.body, sink.end) == (b"a", "upstream_broken")


async def test_closed_response_drops_the_connection_and_is_silent() -> None:
    """`close` inside a body aborts the socket; the sink is not called again. Idempotent."""
    wire, sink = await answered(CHUNKED + b"1\r\na\r\n")
    response = await wire.response()

    response.close()
    response.close()
    wire.connection.data_received(b"1\r\nb\r\n")
    wire.connection.connection_lost(None)
    response.pause()
    response.resume()
    response.start(sink)
    await turn()

    assert (sink.chunks, sink.end) == ([b"a"], "")
    assert wire.transport.aborted
    assert wire.pool.lost_count == 1


async def test_close_from_inside_a_chunk_drops_the_connection() -> None:
    """A sink may close while it takes a chunk."""
    wire, sink = await answered(CHUNKED)
    response = await wire.response()
    sink.on_chunk = lambda _: response.close()

    wire.feed(b"1\r\na\r\n")

    assert (sink.chunks, sink.end) == ([b"a"], "")
    assert wire.transport.aborted


async def test_close_from_inside_broken_chunks_is_silent() -> None:
    """A sink that closes on the last valid bytes receives no error for the malformed rest."""
    wire, sink = await answered(CHUNKED)
    response = await wire.response()
    sink.on_chunk = lambda _: response.close()

    wire.feed(b"1\r\na\r\nzz\r\n")

    assert (sink.chunks, sink.end) == ([b"a"], "")


async def test_close_from_inside_the_last_chunk_keeps_the_connection() -> None:
    """A body that is complete on the wire has given its connection back before."""
    wire, sink = await answered(CHUNKED)
    response = await wire.response()
    sink.on_chunk = lambda _: response.close()

    wire.feed(b"1\r\na\r\n0\r\n\r\n")

    assert (sink.chunks, sink.end) == ([b"a"], "")
    assert wire.pool.released_count == 1
    assert not wire.transport.aborted


async def test_close_before_the_waiting_bytes_are_pushed_is_silent() -> None:
    """`start` then `close` in one turn pushes nothing."""
    wire = Wire()
    await wire.ask()
    wire.feed(LENGTH_10 + b"01234")
    response = await wire.response()
    sink = RecordingSink()

    response.start(sink)
    response.close()
    await turn()

    assert (sink.chunks, sink.end) == ([], "")
    assert wire.transport.aborted


async def test_connection_serves_one_exchange_after_another() -> None:
    """A reused connection returns the next response to the next request."""
    wire = Wire()
    for number in (b"1", b"2", b"3"):
        await wire.ask()
        wire.feed(OK + b"Content-Length: 1\r\n\r\n" + number)
        assert await (await wire.response()).read(10) == number

    assert wire.pool.released_count == 3
    assert not wire.transport.aborted


async def test_idle_connection_that_hears_anything_is_dropped() -> None:
    """Unexpected bytes or a close remove an idle connection."""
    for surprise in ("bytes", "end"):
        wire = Wire()
        await wire.ask()
        wire.feed(OK + b"Content-Length: 0\r\n\r\n")
        await wire.response()

        if surprise == "bytes":
            wire.feed(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        else:
            wire.hang_up()

        assert wire.transport.aborted
        assert wire.pool.lost_count == 1


async def test_unused_answer_that_is_paused_reads_again_when_kept() -> None:
    """A connection returned to its pool resumes reading, also after its sink paused it."""
    wire, _ = await answered(CHUNKED)
    response = await wire.response()
    response.pause()

    wire.feed(b"0\r\n\r\n")

    assert wire.pool.released_count == 1
    assert wire.transport.reading


# Reading whole bodies.


async def test_read_returns_the_whole_body() -> None:
    """`read` returns the bytes received before and after the call."""
    wire = Wire()
    await wire.ask()
    wire.feed(CHUNKED + b"1\r\na\r\n")
    reading = asyncio.ensure_future((await wire.response()).read(100))
    await turn()
    wire.feed(b"1\r\nb\r\n0\r\n\r\n")

    assert await reading == b"ab"


async def test_read_of_a_body_that_has_come_takes_no_turn_of_the_loop() -> None:
    """A small complete response is read without waiting."""
    wire = Wire()
    await wire.ask()
    wire.feed(LENGTH_10 + b"0123456789")
    response = await wire.response()

    with pytest.raises(StopIteration) as stopped:
        response.read(100).__await__().__next__()

    assert stopped.value.value == b"0123456789"


@pytest.mark.parametrize("late", [b"", b"789"])
@pytest.mark.parametrize(("limit", "fits"), [(10, True), (9, False), (3, False)])
async def test_read_beyond_its_limit_is_malformed(late: bytes, limit: int, fits: bool) -> None:
    """A body of just the limit is returned, one byte more is refused."""
    wire = Wire()
    await wire.ask()
    wire.feed(LENGTH_10 + b"0123456789"[: 10 - len(late)])
    reading = asyncio.ensure_future((await wire.response()).read(limit))
    await turn()
    if late and not wire.transport.aborted:
        wire.feed(late)

    if fits:
        assert await reading == b"0123456789"
        return
    with pytest.raises(GatewayError) as caught:
        await reading
    assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED


async def test_read_of_a_body_that_breaks_off_raises() -> None:
    """A short body is never returned as a whole one."""
    wire = Wire()
    await wire.ask()
    wire.feed(LENGTH_10 + b"012")
    reading = asyncio.ensure_future((await wire.response()).read(100))
    await turn()
    wire.hang_up()

    with pytest.raises(GatewayError) as caught:
        await reading

    assert caught.value.kind is ErrorKind.UPSTREAM_BROKEN


async def test_read_after_close_raises() -> None:
    """`read` of a closed response raises."""
    wire = Wire()
    await wire.ask()
    wire.feed(LENGTH_10)
    response = await wire.response()
    response.close()

    with pytest.raises(GatewayError) as caught:
        await response.read(100)

    assert caught.value.kind is ErrorKind.UPSTREAM_BROKEN


async def test_cancelled_read_drops_the_connection() -> None:
    """Cancelling `read` closes the connection."""
    wire = Wire()
    await wire.ask()
    wire.feed(LENGTH_10 + b"012")
    reading = asyncio.ensure_future((await wire.response()).read(100))
    await turn()

    reading.cancel()
    await turn()

    assert reading.cancelled()
    assert wire.transport.aborted
