"""A relay whose caller leaves: nothing more is written; by policy the stream is read on."""

from __future__ import annotations

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.relay import DRAIN_BYTES
from tests.pipeline_bench import Pump
from tests.pipeline_fakes import (
    COMMENT,
    OPENAI_DONE,
    OPENAI_FINISH,
    OPENAI_USAGE,
    openai_event,
)

A, B = openai_event("A"), openai_event("B")


async def test_relay_of_a_caller_that_left_ends_at_once() -> None:
    """By default the upstream is not read any further."""
    pump = Pump()
    pump.relay.body_chunk(A)

    pump.relay.client_left()
    pump.relay.body_chunk(B)

    assert pump.error is ErrorKind.CLIENT_GONE
    assert not pump.relay.drained
    assert pump.client.pieces == [A]


async def test_relay_without_a_deployment_does_not_drain() -> None:
    """The policy is a provider's; without one there is none."""
    pump = Pump(drains=True)
    pump.call.deployment = None

    pump.relay.client_left()

    assert pump.error is ErrorKind.CLIENT_GONE


async def test_drain_reads_on_for_the_usage_and_writes_nothing() -> None:
    """The rest of the stream is metered only."""
    pump = Pump(drains=True)
    pump.relay.body_chunk(A)

    pump.relay.client_left()
    for chunk in (B, OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE):
        pump.relay.body_chunk(chunk)
    pump.relay.body_end()

    assert pump.error is None
    assert pump.relay.drained
    assert pump.client.pieces == [A]
    assert (pump.meter.usage.input, pump.meter.usage.output) == (10, 4)


async def test_drain_before_the_first_event_writes_nothing() -> None:
    """What was held back when the caller left stays unwritten."""
    pump = Pump(drains=True)
    pump.relay.body_chunk(A[:-2])

    pump.relay.client_left()
    pump.relay.body_end()

    assert pump.error is None
    assert pump.client.status is None


async def test_drain_ends_when_it_has_read_too_much() -> None:
    """A stream without end is not read without end."""
    pump = Pump(drains=True)
    pump.relay.client_left()
    mebibyte = b": " + b"x" * (1024 * 1024 - 4) + b"\n\n"

    for _ in range(DRAIN_BYTES // len(mebibyte)):
        pump.relay.body_chunk(mebibyte)
    within = pump.relay.done.done()
    pump.relay.body_chunk(A)

    assert not within
    assert pump.error is ErrorKind.CLIENT_GONE


@pytest.mark.parametrize(("seconds", "ends"), [(59.0, False), (61.0, True)])
async def test_drain_ends_when_it_takes_too_long(seconds: float, ends: bool) -> None:
    """After a minute the upstream is let go."""
    pump = Pump(drains=True)
    pump.relay.client_left()

    pump.check_after(seconds)

    assert pump.relay.done.done() is ends
    if ends:
        assert pump.error is ErrorKind.CLIENT_GONE


async def test_drain_that_breaks_off_is_a_failure() -> None:
    """What the upstream did not say to its end was not drained."""
    pump = Pump(drains=True)
    pump.relay.client_left()

    pump.relay.body_failed(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))

    assert pump.error is ErrorKind.UPSTREAM_BROKEN


async def test_drain_gives_up_the_write_that_waits_and_reads_on() -> None:
    """A slow caller that leaves does not keep the upstream paused."""
    pump = Pump(drains=True)
    pump.client.slow = True
    pump.relay.body_chunk(A)

    pump.relay.client_left()
    pump.relay.body_chunk(B)
    pump.relay.body_end()

    assert not pump.response.paused
    assert pump.error is None


async def test_drain_after_the_end_has_come_is_over_at_once() -> None:
    """Nothing is left to read when only the last write was waited for."""
    pump = Pump(drains=True)
    pump.client.slow = True
    pump.relay.body_chunk(A)
    pump.relay.body_end()

    pump.relay.client_left()

    assert pump.error is None
    assert pump.relay.drained


async def test_drain_is_not_pinged_or_committed() -> None:
    """Nobody is there to be told that the stream lives."""
    pump = Pump(drains=True)
    pump.relay.body_chunk(COMMENT)
    pump.relay.client_left()

    pump.check_after(30)

    assert pump.client.status is None
