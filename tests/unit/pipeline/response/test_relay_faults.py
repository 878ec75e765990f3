"""Internal errors inside a relay: they end this one call, and nothing hangs."""

from __future__ import annotations

import pytest

from gateway.core.model import Endpoint
from gateway.protocols.streams.relayed import Unchanged
from tests.support.pipeline_bench import Pump
from tests.support.pipeline_fakes import openai_event

A = openai_event("A")


class BrokenTransform(Unchanged):
    """Fails in one of its methods; else passes bytes on."""

    def __init__(self, where: str) -> None:
        self._where = where

    def feed(self, chunk: bytes) -> bytes:
        self._perhaps_fail("feed")
        return chunk

    def expire_after_finish(self) -> bytes:
        self._perhaps_fail("expire")
        return b""

    def _perhaps_fail(self, where: str) -> None:
        if where == self._where:
            raise ZeroDivisionError(where)


def broken(where: str) -> Pump:
    """A pump whose translator fails in one of its methods."""
    return Pump(transform=BrokenTransform(where), endpoint=Endpoint.MESSAGES)


async def test_relay_mistake_in_a_chunk_is_its_result() -> None:
    """The exception reaches the relay's owner, not the transport that pushed the chunk."""
    pump = broken("feed")

    pump.relay.body_chunk(A)
    pump.relay.body_chunk(A)

    with pytest.raises(ZeroDivisionError):
        await pump.relay.done
    assert pump.client.status is None


async def test_relay_mistake_at_a_clock_is_its_result() -> None:
    """The timer of all other streams goes on."""
    pump = broken("expire")
    pump.relay.body_chunk(A)
    pump.meter.saw_end = True

    pump.check_after(30)

    with pytest.raises(ZeroDivisionError):
        await pump.relay.done


async def test_relay_send_that_fails_at_once_is_its_result() -> None:
    """A server that cannot write ends the call."""
    pump = Pump()
    pump.client.send_error = OSError("gone")

    pump.relay.body_chunk(A)

    with pytest.raises(OSError, match="gone"):
        await pump.relay.done


async def test_relay_send_that_fails_later_is_its_result() -> None:
    """A write that waited and then failed does not leave the upstream paused for ever."""
    pump = Pump()
    pump.client.slow = True
    pump.relay.body_chunk(A)
    pump.relay.body_chunk(A)
    pump.client.send_error = OSError("gone")

    await pump.client.take()

    with pytest.raises(OSError, match="gone"):
        await pump.relay.done


async def test_relay_mistake_after_the_end_changes_nothing() -> None:
    """The first result stands."""
    pump = Pump()
    pump.client.slow = True
    pump.relay.body_chunk(A)
    pump.relay.body_chunk(A)
    pump.relay.client_left()

    pump.client.send_error = OSError("gone")
    await pump.client.take()

    assert pump.error is not None
