"""The client as one of several attempts sees it, and the writer that waits for content."""

from __future__ import annotations

import pytest

from gateway.core.model import Endpoint, Wire
from gateway.pipeline.call import Call
from gateway.pipeline.client.writer import HELD_BYTES, HoldingWriter, ResponseHead
from gateway.pipeline.hedging.lane import LaneChannel, LostRaceError
from tests.support.pipeline_fakes import FakeClient


def lost() -> None:
    """Another attempt has won."""
    raise LostRaceError


def won() -> None:
    """This attempt wins."""


class Producer:
    """Produces nothing by itself."""

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def write_stalled(self, error: Exception) -> None: ...

    def write_failed(self, error: Exception) -> None: ...


def a_call() -> Call:
    """Return a call that is one of two attempts."""
    origin = Call("req_1", Endpoint.CHAT_COMPLETIONS, Wire.OPENAI, 0.0)
    origin.attempts = 2
    return origin.fork(hedge=True)


async def test_attempt_that_lost_starts_no_response() -> None:
    """The client has received nothing from it."""
    client = FakeClient()
    channel = LaneChannel(client.channel(), lost, lambda _: True, a_call())

    with pytest.raises(LostRaceError):
        await channel.respond(200, [], b"late")

    assert (client.status, client.body, channel.started) == (None, b"", False)


async def test_attempt_that_won_responds_with_the_number_of_all_attempts() -> None:
    """The head was written before the other attempt began."""
    client = FakeClient()
    channel = LaneChannel(client.channel(), won, lambda _: True, a_call())

    await channel.respond(200, [(b"x-capio-attempts", b"1"), (b"a", b"b")], b"body")

    assert (client.status, client.body, client.ended) == (200, b"body", True)
    assert client.headers == [(b"x-capio-attempts", b"2"), (b"a", b"b")]


async def test_departed_client_is_gone_for_each_attempt() -> None:
    """It is the same client."""
    client = FakeClient()
    real = client.channel()
    channel = LaneChannel(real, won, lambda _: True, a_call())
    real.watch_gone(lambda: None)
    assert not channel.gone

    client.leave()
    await real.drain()

    assert channel.gone


def a_writer(client: FakeClient) -> HoldingWriter:
    """Return a writer to a client."""
    return HoldingWriter(client.channel(), ResponseHead(200, [], lambda: None), 5.0, Producer())


async def test_writer_sends_what_it_held_with_the_first_content() -> None:
    """In order, in one piece; after that each chunk by itself."""
    client = FakeClient()
    writer = a_writer(client)
    writer.write(b"a")
    writer.write(b"b")
    assert (client.status, writer.tail) == (None, (b"", b""))

    writer.release()
    writer.write(b"c")

    assert (client.status, client.pieces) == (200, [b"ab", b"c"])
    assert writer.tail == (b"ab", b"c")


async def test_writer_sends_what_it_held_at_the_end() -> None:
    """A response without content is a response."""
    client = FakeClient()
    writer = a_writer(client)
    writer.write(b"a")
    await writer.write_last(b"b")

    assert (client.status, client.pieces) == (200, [b"ab"])


async def test_writer_holds_a_bounded_number_of_bytes() -> None:
    """An upstream that sends events without content fills no memory."""
    client = FakeClient()
    writer = a_writer(client)
    writer.write(b"x" * HELD_BYTES)
    assert client.status is None

    writer.write(b"y")

    assert client.body == b"x" * HELD_BYTES + b"y"
