"""How a relay brings bytes to a client: at once, in order, and no faster than they are taken."""

from __future__ import annotations

import asyncio

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.streams.relayed import RelayedStream
from tests.support.pipeline_bench import Pump
from tests.support.pipeline_fakes import (
    COMMENT,
    OPENAI_DONE,
    OPENAI_ERROR,
    OPENAI_FINISH,
    OPENAI_USAGE,
    openai_event,
)
from tests.support.waiting import wait_until

A, B, C = openai_event("A"), openai_event("B"), openai_event("C")


class WatchingMeter:
    """Notes what the client had already got when it was fed."""

    finish_reason: str | None = None
    restarted = False
    contents = 0
    failed = False
    saw_end = False

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.pump: Pump | None = None

    def feed(self, chunk: bytes) -> None:
        assert self.pump is not None
        self.seen.append(self.pump.client.body)


async def test_relay_first_bytes_commit_the_head() -> None:
    """The head goes out with the first bytes for the client, not before."""
    pump = Pump()
    assert pump.client.status is None

    pump.relay.body_chunk(A)

    assert (pump.client.status, pump.client.pieces) == (200, [A])


async def test_relay_hidden_bytes_do_not_commit() -> None:
    """While everything is held back nothing is said to the client."""
    pump = Pump(transform=RelayedStream(Wire.OPENAI, "m", hides_usage=True))

    pump.relay.body_chunk(A[:10])

    assert pump.client.status is None


async def test_relay_chunk_is_forwarded_before_it_is_metered() -> None:
    """The client never waits for the meter."""
    meter = WatchingMeter()
    pump = Pump(meter=meter)
    meter.pump = pump

    pump.relay.body_chunk(A)
    pump.relay.body_chunk(B)

    assert meter.seen == [A, A + B]


async def test_relay_each_read_is_one_write() -> None:
    """What arrives together leaves together; nothing is gathered."""
    pump = Pump()

    for chunk in (A + B, C):
        pump.relay.body_chunk(chunk)

    assert pump.client.pieces == [A + B, C]


async def test_relay_slow_client_pauses_the_upstream_until_it_reads() -> None:
    """Reading stops with the first write that waits, and goes on when it was taken."""
    pump = Pump()
    pump.client.slow = True

    pump.relay.body_chunk(A)
    paused = pump.response.paused
    await pump.client.take()
    await wait_until(lambda: not pump.response.paused)

    assert paused
    assert pump.client.pieces == [A]


async def test_relay_what_was_in_hand_when_paused_follows_in_order() -> None:
    """Chunks that come while a write waits are written after it, joined, none lost."""
    pump = Pump()
    pump.client.slow = True

    for chunk in (A, B, C):
        pump.relay.body_chunk(chunk)
    await pump.client.take()
    await pump.client.take()
    await wait_until(lambda: not pump.response.paused)

    assert pump.client.pieces == [A, B + C]


async def test_relay_queue_goes_on_when_the_client_became_quick() -> None:
    """Queued chunks need no second wait when the client takes them at once."""
    pump = Pump()
    pump.client.slow = True
    pump.relay.body_chunk(A)
    pump.relay.body_chunk(B)

    pump.client.slow = False
    await pump.client.take()
    await wait_until(lambda: not pump.response.paused)

    assert pump.client.pieces == [A, B]


async def test_relay_client_that_takes_nothing_ends_the_call() -> None:
    """A write that outlasts the stall limit ends the relay with SLOW_CLIENT."""
    pump = Pump(stall_s=0.01)
    pump.client.slow = True

    pump.relay.body_chunk(A)
    await pump.relay.done

    assert pump.error is ErrorKind.SLOW_CLIENT


async def test_relay_end_during_a_slow_write_waits_for_it() -> None:
    """The relay is done when the last bytes were taken, not when the upstream has ended."""
    pump = Pump()
    pump.client.slow = True
    pump.relay.body_chunk(A)

    pump.relay.body_end()
    done_early = pump.relay.done.done()
    await pump.client.take()

    assert await pump.relay.done is None
    assert not done_early
    assert pump.client.pieces == [A]


async def test_relay_failure_during_a_slow_write_waits_for_it() -> None:
    """What came before the failure reaches the client first."""
    pump = Pump()
    pump.client.slow = True
    pump.relay.body_chunk(A)

    pump.relay.body_failed(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))
    await pump.client.take()
    await pump.relay.done

    assert pump.error is ErrorKind.UPSTREAM_BROKEN
    assert pump.client.pieces == [A]


async def test_relay_writes_nothing_after_it_is_done() -> None:
    """Whatever the upstream still brings belongs to nobody."""
    pump = Pump()
    pump.relay.body_chunk(A)
    pump.relay.stop(GatewayError(ErrorKind.UPSTREAM_TIMEOUT, "late"))

    pump.relay.body_chunk(B)
    pump.relay.body_end()
    pump.relay.body_failed(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))

    assert pump.error is ErrorKind.UPSTREAM_TIMEOUT
    assert pump.client.pieces == [A]


async def test_relay_stopped_before_its_opening_writes_nothing_at_the_end() -> None:
    """Comments that were held back are not written to a response that has ended."""
    pump = Pump()
    pump.relay.body_chunk(COMMENT)
    pump.relay.stop(GatewayError(ErrorKind.UPSTREAM_TIMEOUT, "late"))

    pump.relay.body_end()

    assert pump.client.status is None


async def test_relay_comments_wait_for_the_first_event() -> None:
    """Comments alone commit nothing; with the first event they go out as they came."""
    pump = Pump()

    pump.relay.body_chunk(COMMENT)
    before = pump.client.status
    pump.relay.body_chunk(A)

    assert before is None
    assert pump.client.body == COMMENT + A


async def test_relay_comments_alone_are_no_answer() -> None:
    """A body of comments commits nothing: another deployment may still respond."""
    pump = Pump(transform=RelayedStream(Wire.OPENAI, "m", hides_usage=True))
    pump.relay.body_chunk(COMMENT)

    pump.relay.body_end()

    assert pump.client.status is None
    assert pump.error is None


async def test_relay_error_as_first_event_becomes_an_http_error() -> None:
    """An upstream that says 200 and then reports an error has not begun a response."""
    pump = Pump()

    pump.relay.body_chunk(OPENAI_ERROR)

    assert pump.error is ErrorKind.UPSTREAM_REFUSED
    assert pump.client.status is None


async def test_relay_unasked_usage_is_hidden_from_the_client() -> None:
    """The event that only the gateway asked for is metered and not written."""
    pump = Pump(transform=RelayedStream(Wire.OPENAI, "m", hides_usage=True))

    for chunk in (A, OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE):
        pump.relay.body_chunk(chunk)

    assert pump.client.body == A + OPENAI_FINISH + OPENAI_DONE
    assert pump.meter.usage.output == 4


async def test_relay_tail_is_what_was_written_last() -> None:
    """The last two pieces tell whether the response stands between two events."""
    pump = Pump()

    for chunk in (A, B[:20], B[20:]):
        pump.relay.body_chunk(chunk)

    assert pump.relay.writer.tail == (B[:20], B[20:])


async def test_relay_content_times_are_noted_and_comments_do_not_count() -> None:
    """First and last content are times of content; a comment moves neither."""
    pump = Pump()

    pump.relay.body_chunk(A)
    first = pump.attempt.first_content_at
    last = pump.attempt.last_content_at
    pump.relay.body_chunk(COMMENT)

    assert first is not None
    assert (pump.attempt.last_content_at, pump.attempt.content_count) == (last, 1)


async def test_relay_last_piece_beyond_the_stall_limit_is_told() -> None:
    """A piece written after `done` has the same limit as any other."""
    pump = Pump(stall_s=0.01)
    pump.client.slow = True

    kind = None
    try:
        await pump.relay.writer.write_last(A)
    except GatewayError as error:
        kind = error.kind

    assert kind is ErrorKind.SLOW_CLIENT


async def test_relay_last_piece_commits_and_waits_for_a_slow_client() -> None:
    """A piece written after `done` brings the head along and returns once it was taken."""
    pump = Pump()
    pump.client.slow = True

    writing = asyncio.ensure_future(pump.relay.writer.write_last(A))
    await pump.client.take()
    await writing

    assert (pump.client.status, pump.client.pieces) == (200, [A])


async def test_relay_closed_while_a_write_waits_drops_the_write() -> None:
    """The relay's owner can end it at any time."""
    pump = Pump()
    pump.client.slow = True
    pump.relay.body_chunk(A)

    await pump.relay.writer.aclose()
    await pump.relay.writer.aclose()

    assert pump.client.pieces == []
