"""An exchange of the direct port: what is written when."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable

import pytest

from gateway.direct_port.exchange import Exchange, Message
from gateway.direct_port.head import read_head

HEAD = b"HTTP/1.1 200 OK\r\ndate: today\r\n%b\r\n"  # what the gateway sends of a head
PLAIN = HEAD % b"content-length: 2\r\n"
CHUNKED = HEAD % b"transfer-encoding: chunked\r\n"


class Written:
    """A connection that keeps what is written to it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.soon: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def drained(self) -> Future[None] | None:
        return None

    def new_future(self) -> Future[Message]:
        raise NotImplementedError

    def call_soon(self, callback: Callable[[], None]) -> object:
        self.soon.append(callback)
        return None

    def turn(self) -> None:
        """Run what the next turn of an event loop would."""
        due, self.soon = self.soon, []
        for callback in due:
            callback()

    def date(self) -> bytes:
        return b"date: today\r\n"

    def serves_more(self) -> bool:
        return True

    def body_taken(self) -> None:
        return None

    def response_ended(self, *, keep_alive: bool) -> None:
        assert keep_alive


@pytest.fixture
def wire() -> Written:
    """The connection of `exchange`."""
    return Written()


@pytest.fixture
def exchange(wire: Written) -> Exchange:
    """An exchange whose response was not begun."""
    return Exchange(wire, read_head(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))


def start(exchange: Exchange, length: int | None = None) -> None:
    """Begin a response of `length` bytes, or a chunked one."""
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    exchange.send({"type": "http.response.start", "status": 200, "headers": headers})


def send(exchange: Exchange, body: bytes, *, more: bool = False) -> None:
    """Send a piece of the body."""
    exchange.send({"type": "http.response.body", "body": body, "more_body": more})


def test_whole_response_is_one_write(exchange: Exchange, wire: Written) -> None:
    """Head and body together."""
    start(exchange, 2)
    send(exchange, b"ab")
    wire.turn()

    assert wire.writes == [PLAIN + b"ab"]


def test_head_and_first_chunk_are_one_write(exchange: Exchange, wire: Written) -> None:
    """Later chunks are written at once."""
    start(exchange)
    send(exchange, b"ab", more=True)
    send(exchange, b"c", more=True)
    wire.turn()

    assert wire.writes == [CHUNKED + b"2\r\nab\r\n", b"1\r\nc\r\n"]


def test_head_alone_is_written_in_the_next_turn(exchange: Exchange, wire: Written) -> None:
    """A stream that is silent at first shows its head."""
    start(exchange)
    assert wire.writes == []
    wire.turn()
    assert wire.writes == [CHUNKED]

    send(exchange, b"ab", more=True)
    wire.turn()
    assert wire.writes[1:] == [b"2\r\nab\r\n"]


def test_empty_piece_is_no_chunk(exchange: Exchange, wire: Written) -> None:
    """An empty chunk would end the body."""
    start(exchange)
    send(exchange, b"", more=True)
    wire.turn()

    assert wire.writes == [CHUNKED]


def test_long_body_is_not_copied(exchange: Exchange, wire: Written) -> None:
    """It is written as it is, behind the head."""
    body = bytes(100_000)
    start(exchange, len(body))
    send(exchange, body)
    wire.turn()

    assert wire.writes[0] == HEAD % b"content-length: 100000\r\n"
    assert wire.writes[1] is body


def test_head_is_not_written_after_the_client_has_left(exchange: Exchange, wire: Written) -> None:
    """Nothing is written to a closed connection."""
    start(exchange)
    exchange.leave()
    wire.turn()

    assert wire.writes == []
