"""Replies are matched to commands by order, whatever the network's pieces and the deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.redis.connection import MORE, Reply, ReplyError
from gateway.store.redis.inflight import Batch, InflightBatches, RedisUnavailable


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that makes futures and never runs."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


class Wire:
    """Batches with numbered commands, and a server that replies with the number of each."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.observed = 0
        self.errors: list[str] = []
        self.batches = InflightBatches(self.observe, lambda error: self.errors.append(error.code))
        self.reader = hiredis.Reader(replyError=ReplyError, notEnoughData=MORE)
        self.futures: list[asyncio.Future[Reply]] = []
        self.expired: set[int] = set()
        self.stream = b""
        self.now = 0.0

    def observe(self, seconds: float, commands: int) -> None:
        assert seconds >= 0
        self.observed += commands

    def send(self, commands: int) -> None:
        futures: list[asyncio.Future[Reply]] = [self.loop.create_future() for _ in range(commands)]
        for number in range(len(self.futures), len(self.futures) + commands):
            self.stream += b":%d\r\n" % number if number % 5 else b"-ODD %d\r\n" % number
        self.futures += futures
        self.batches.pending += commands
        self.batches.sent(Batch(futures[::-1], b"", self.now))

    def receive(self, size: int) -> tuple[bool, bool]:
        piece, self.stream = self.stream[:size], self.stream[size:]
        self.reader.feed(piece)
        return self.batches.resolve(self.reader, self.now)

    def expire(self) -> None:
        self.batches.expire(self.now)
        self.expired |= {n for n, future in enumerate(self.futures) if timed_out(future)}


def timed_out(future: asyncio.Future[Reply]) -> bool:
    return future.done() and isinstance(future.exception(), RedisUnavailable)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(1, 8)),
            st.tuples(st.just("receive"), st.integers(1, 40)),
            st.tuples(st.just("expire"), st.just(0)),
        ),
        max_size=40,
    )
)
def test_resolve_any_pieces_and_deadlines_give_each_command_its_own_reply(
    loop: asyncio.AbstractEventLoop, steps: list[tuple[str, int]]
) -> None:
    """However replies are cut and whichever come late, none reaches another command."""
    wire = Wire(loop)

    for action, amount in steps:
        wire.now += 1
        match action:
            case "send":
                wire.send(amount)
            case "receive":
                assert wire.receive(amount)[1]
            case _:
                wire.expire()
    wire.receive(len(wire.stream) + 1)

    for number, future in enumerate(wire.futures):
        if number in wire.expired:
            assert timed_out(future)
        elif number % 5:
            assert future.result() == number
        else:
            error = future.exception()
            assert isinstance(error, ReplyError)
            assert (error.code, error.message) == ("ODD", str(number))
    assert wire.batches.pending == 0
    assert wire.observed == len(wire.futures) - len(wire.expired)
    assert not wire.batches


def test_resolve_reply_to_no_command_is_out_of_step(loop: asyncio.AbstractEventLoop) -> None:
    """A reply without a command means that replies are out of order."""
    wire = Wire(loop)
    wire.send(1)
    wire.stream = b":0\r\n:1\r\n"

    assert wire.receive(100) == (True, False)


def test_resolve_only_late_replies_is_not_in_time(loop: asyncio.AbstractEventLoop) -> None:
    """Late replies do not count as a sign of health."""
    wire = Wire(loop)
    wire.send(2)
    wire.expire()

    assert wire.receive(100) == (False, True)


def test_late_since_knows_how_long_an_answer_is_owed(loop: asyncio.AbstractEventLoop) -> None:
    """Only what expired counts, from when it was sent."""
    wire = Wire(loop)
    wire.now = 5.0
    wire.send(1)
    assert not wire.batches.late_since(9.0)

    wire.expire()

    assert wire.batches.late_since(5.1)
    assert not wire.batches.late_since(5.0)
