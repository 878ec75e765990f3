"""One HTTP/1.1 connection: what is written, what a head gives, and when it is dropped."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.upstream.http1.connection import ONE_WRITE_BYTES, SLICE_BYTES
from gateway.upstream.http1.head import (
    MalformedHeadError,
    end_request_head,
    plan_body,
    start_request_head,
)
from tests.support.cycles import no_cycles
from tests.support.upstream_fakes import HEADERS, Wire, a_request, answered, turn

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH_10 = OK + b"Content-Length: 10\r\n\r\n"


# The request.


async def test_small_request_is_one_write() -> None:
    """Head and body leave in one piece, with the length added behind the headers."""
    wire = Wire()

    await wire.ask(a_request(body=b'{"a":1}'))

    assert wire.transport.written == [
        b"POST /v1/x HTTP/1.1\r\nhost: upstream.test\r\nauthorization: Bearer sk-secret\r\n"
        b'content-length: 7\r\n\r\n{"a":1}'
    ]
    wire.connection.drop()
    await turn()


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("GET", b"", b""),
        ("HEAD", b"", b""),
        ("DELETE", b"", b""),
        ("POST", b"", b"content-length: 0\r\n"),
        ("PATCH", b"", b"content-length: 0\r\n"),
        ("DELETE", b"x", b"content-length: 1\r\n"),
    ],
)
def test_request_head_tells_the_length_where_one_is_due(
    method: str, body: bytes, length: bytes
) -> None:
    """A length is written for a body, and for the methods that are expected to have one."""
    start = start_request_head(method, "/", ((b"host", b"h"),))
    head = end_request_head(start, method, len(body))

    assert head == method.encode() + b" / HTTP/1.1\r\nhost: h\r\n" + length + b"\r\n"


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/", (b"x", b"a\r\nb: c")),
        ("/", (b"x", b"a\nb: c")),
        ("/", (b"x", b"a\rb")),
        ("/", (b"x", b"a\0b")),
        ("/", (b"x\r\ny", b"a")),
        ("/a b", (b"x", b"a")),
        ("/a\r\nb: c", (b"x", b"a")),
        ("/ä", (b"x", b"a")),
    ],
)
def test_request_head_with_a_forged_line_is_refused(path: str, header: tuple[bytes, bytes]) -> None:
    """A value that would end its line, or a path that would end itself, is never sent."""
    with pytest.raises(ValueError, match=r"control character|space|ascii"):
        start_request_head("GET", path, (header,))


async def test_request_that_must_not_be_sent_is_internal_and_tells_no_secret() -> None:
    """The refusal of a forged head names the host only."""
    wire = Wire()

    with pytest.raises(GatewayError) as caught:
        await wire.connection.exchange(a_request(path="/a b"), 5.0)

    assert caught.value.kind is ErrorKind.INTERNAL
    assert caught.value.detail == "upstream.test:80: invalid request head (ValueError)"
    assert wire.transport.written == []
    assert wire.pool.lost_count == 1


async def test_big_body_goes_in_slices_as_the_socket_takes_them() -> None:
    """The next slice waits until the socket has taken the one before; the bytes are the body's."""
    body = bytes(range(256)) * (4 * SLICE_BYTES // 256) + b"end"
    wire = Wire()
    wire.transport.high_water = 65_536

    await wire.ask(a_request(body=body))
    first = len(wire.transport.written)
    rounds = 0
    while wire.transport.buffered:
        rounds += 1
        wire.transport.flush()

    assert first == 2
    assert rounds == 5
    assert max(map(len, wire.transport.written)) == SLICE_BYTES
    assert b"".join(wire.transport.written).partition(b"\r\n\r\n")[2] == body
    wire.connection.drop()
    await turn()


@pytest.mark.parametrize("size", [ONE_WRITE_BYTES, ONE_WRITE_BYTES + 1])
async def test_body_around_the_limit_of_one_write_arrives_whole(size: int) -> None:
    """Both ways of writing send the same bytes."""
    wire = Wire()

    await wire.ask(a_request(body=b"x" * size))

    assert b"".join(wire.transport.written).endswith(b"\r\n\r\n" + b"x" * size)
    assert len(wire.transport.written) == (1 if size == ONE_WRITE_BYTES else 2)
    wire.connection.drop()
    await turn()


async def test_write_that_fails_ends_the_sending() -> None:
    """A socket that died under a big body is not written to any more."""
    wire = Wire()
    wire.transport.high_water = 65_536
    await wire.ask(a_request(body=b"x" * (4 * SLICE_BYTES)))
    written = len(wire.transport.written)

    wire.transport.aborted = True
    wire.transport.flush()
    wire.connection.connection_lost(ConnectionResetError())

    assert len(wire.transport.written) == written
    with pytest.raises(GatewayError) as caught:
        await wire.response()
    assert caught.value.kind is ErrorKind.UPSTREAM_BROKEN


async def test_connection_closed_before_the_request_has_sent_nothing() -> None:
    """An upstream that accepts and closes is a connect error: safe to repeat."""
    wire = Wire()
    wire.hang_up()

    with pytest.raises(GatewayError) as caught:
        await wire.connection.exchange(a_request(), 5.0)

    assert caught.value.kind is ErrorKind.UPSTREAM_CONNECT
    assert wire.transport.written == []


async def test_refusal_before_the_body_is_sent_is_read_then_closed() -> None:
    """An early 413 is returned; the rest of the body is not sent, and the connection not reused."""
    wire = Wire()
    wire.transport.high_water = 65_536
    await wire.ask(a_request(body=b"x" * (8 * SLICE_BYTES)))
    written = len(wire.transport.written)

    wire.feed(b"HTTP/1.1 413 Too Large\r\nContent-Length: 6\r\n\r\n")
    response = await wire.response()
    wire.transport.flush()
    assert not wire.transport.aborted
    wire.feed(b"no way")

    assert (response.status, await response.read(100)) == (413, b"no way")
    assert len(wire.transport.written) == written
    assert wire.transport.aborted
    assert wire.pool.released_count == 0


async def test_answer_before_the_body_is_sent_lets_the_body_go_on() -> None:
    """A 200 that starts early does not stop the request; done first, it is not reused."""
    wire = Wire()
    wire.transport.high_water = 65_536
    await wire.ask(a_request(body=b"x" * (4 * SLICE_BYTES)))
    written = len(wire.transport.written)

    wire.feed(LENGTH_10)
    wire.transport.flush()
    assert len(wire.transport.written) == written + 1
    wire.feed(b"0123456789")

    assert await (await wire.response()).read(100) == b"0123456789"
    assert wire.transport.aborted


# The response head.


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"1"), (b"content-length", b"1")],
        [(b"content-length", b"\xb2")],
        [(b"content-length", b"9" * 19)],
        [(b"content-length", b"9" * 5000)],
        [(b"content-length", b"1_0")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"gzip")],
    ],
)
def test_body_whose_end_is_ambiguous_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    """What the parser might let through one day is refused here, too."""
    with pytest.raises(MalformedHeadError):
        plan_body("GET", 200, "1.1", headers)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"timeout=5", 5.0),
        (b"max=100, Timeout=60", 60.0),
        (b"timeout=5;x", None),
        (b"timeout=-1", None),
        (b"timeout=9999999999", None),
        (b"max=3", None),
        (b"", None),
    ],
)
def test_idle_hint_is_a_plain_number_or_none(value: bytes, seconds: float | None) -> None:
    """A malformed `timeout` of `keep-alive` is ignored."""
    assert plan_body("GET", 200, "1.1", [(b"keep-alive", value)]).idle_hint_s == seconds


async def test_headers_come_in_order_lower_case_and_repeated() -> None:
    """Names are lower case, values as sent without outer blanks, repeats kept."""
    wire = Wire()
    await wire.ask()

    wire.feed(OK + b"X-One:  A b \t\r\nSET-Cookie: a\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n")

    assert (await wire.response()).headers == [
        (b"x-one", b"A b"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
        (b"content-length", b"0"),
    ]


async def test_hints_and_trailers_are_not_among_the_headers() -> None:
    """Headers of a 103 and trailers are dropped."""
    wire = Wire()
    await wire.ask()

    wire.feed(b"HTTP/1.1 103 E\r\nLink: x\r\n\r\n" + CHUNKED + b"0\r\nX-Late: 1\r\n\r\n")

    response = await wire.response()
    assert response.headers == [(b"transfer-encoding", b"chunked")]


async def test_head_that_does_not_come_is_a_timeout() -> None:
    """After `timeout_s` the connection is closed and the exchange fails."""
    wire = Wire()

    with pytest.raises(GatewayError) as caught:
        await wire.connection.exchange(a_request(), 0.01)

    assert caught.value.kind is ErrorKind.UPSTREAM_TIMEOUT
    assert wire.transport.aborted
    assert not wire.connection.closed_before_response


async def test_head_in_time_is_not_cut_off_later() -> None:
    """The timeout of the head ends when the head has arrived."""
    wire = Wire()
    await wire.ask(timeout_s=0.01)
    wire.feed(CHUNKED)
    response = await wire.response()

    await asyncio.sleep(0.02)
    wire.feed(b"2\r\nok\r\n0\r\n\r\n")

    assert await response.read(100) == b"ok"


@pytest.mark.parametrize(
    ("sent", "silent"), [(b"", True), (b"H", False), (b"HTTP/1.1 100 C\r\n\r\n", False)]
)
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
async def test_death_before_the_head_tells_whether_a_byte_came(
    sent: bytes, silent: bool, error: Exception | None
) -> None:
    """Only a connection that ended without any byte counts as having died silently."""
    wire = Wire()
    await wire.ask()
    if sent:
        wire.feed(sent)
    wire.hang_up(error)

    with pytest.raises(GatewayError) as caught:
        await wire.response()

    assert caught.value.kind is ErrorKind.UPSTREAM_BROKEN
    assert caught.value.__cause__ is error
    assert wire.connection.closed_before_response is silent


async def test_reset_ends_even_a_body_that_runs_until_close() -> None:
    """A reset is a failure, also for a body that ends with the connection."""
    wire, sink = await answered(OK + b"\r\nhello")

    wire.hang_up(ConnectionResetError())

    assert (sink.body, sink.end) == (b"hello", "upstream_broken")


async def test_cancelled_exchange_drops_the_connection() -> None:
    """Cancelling the wait for the head closes the connection."""
    wire = Wire()
    await wire.ask()
    assert wire.task is not None

    wire.task.cancel()
    await turn()

    assert wire.task.cancelled()
    assert wire.transport.aborted
    assert wire.pool.lost_count == 1


async def test_exchange_cancelled_as_its_head_comes_drops_the_connection() -> None:
    """A head that arrives during cancellation leaves no open connection."""
    wire = Wire()
    await wire.ask()
    assert wire.task is not None

    wire.feed(LENGTH_10)
    wire.task.cancel()
    await turn()

    assert wire.task.cancelled()
    assert wire.transport.aborted


async def test_exchange_cancelled_with_a_whole_answer_keeps_the_connection() -> None:
    """A complete response has already released its connection."""
    wire = Wire()
    await wire.ask()
    assert wire.task is not None

    wire.feed(LENGTH_10 + b"0123456789")
    wire.task.cancel()
    await turn()

    assert not wire.transport.aborted
    assert wire.pool.released_count == 1


# Error details and references.


async def test_errors_tell_neither_headers_nor_content() -> None:
    """Message and detail of a broken response contain no credential and none of its bytes."""
    wire = Wire()
    await wire.ask(a_request(body=b"secret-prompt"))
    wire.feed(b"HTTP/1.1 200 OK\r\nX: secret-\0answer\r\n\r\n")

    with pytest.raises(GatewayError) as caught:
        await wire.response()

    report = f"{caught.value.message} {caught.value.detail}"
    assert "secret" not in report
    assert HEADERS[1][1].decode() not in report
    assert "upstream.test" not in caught.value.message
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("ending", ["complete", "closed", "broken"])
async def test_finished_exchange_leaves_no_garbage(ending: str) -> None:
    """Responses are freed by their last reference, without reference cycles."""
    wires = [Wire() for _ in range(5)]
    with no_cycles():
        for wire in wires:
            await wire.ask()
            wire.feed(CHUNKED + b"1\r\na\r\n")
            response = await wire.response()
            if ending == "complete":
                wire.feed(b"0\r\n\r\n")
                await response.read(10)
            elif ending == "closed":
                response.close()
            else:
                wire.hang_up()
            wire.task = None
            del response


def test_cycles_of_the_gateway_are_noticed() -> None:
    with pytest.raises(AssertionError, match="GatewayError"), no_cycles():
        error = GatewayError(ErrorKind.BAD_REQUEST, "made")
        error.__context__ = ValueError(error)
        del error
