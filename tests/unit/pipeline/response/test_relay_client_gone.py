"""A relay whose client leaves: nothing more is written; by policy the stream is read on."""

from __future__ import annotations

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.departure import DRAIN_BYTES
from gateway.pipeline.response.clocks import SILENT_FINISH_S
from tests.support.pipeline_bench import Pump
from tests.support.pipeline_fakes import (
    COMMENT,
    OPENAI_DONE,
    OPENAI_FINISH,
    OPENAI_USAGE,
    openai_event,
)
from tests.support.waiting import wait_until

A, B = openai_event("A"), openai_event("B")


async def test_relay_of_a_client_that_left_ends_at_once() -> None:
    """By default the upstream is not read any further."""
    pump = Pump()
    pump.relay.body_chunk(A)

    pump.relay.client_left()
    pump.relay.body_chunk(B)

    assert pump.error is ErrorKind.CLIENT_GONE
    assert not pump.relay.read_on
    assert pump.client.pieces == [A]


async def test_relay_without_a_deployment_does_not_drain() -> None:
    """The policy is a provider's; without one there is none."""
    pump = Pump(drains=True)
    pump.call.attempt = None

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
    assert pump.relay.read_on
    assert pump.client.pieces == [A]
    assert (pump.meter.usage.input, pump.meter.usage.output) == (10, 4)


async def test_drain_before_the_first_event_writes_nothing() -> None:
    """What was held back when the client left stays unwritten."""
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
    """A slow client that leaves does not keep the upstream paused."""
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
    assert pump.relay.read_on


async def test_drain_is_not_pinged_or_committed() -> None:
    """No keep-alive is sent to a client that has left."""
    pump = Pump(drains=True)
    pump.relay.body_chunk(COMMENT)
    pump.relay.client_left()

    pump.check_after(30)

    assert pump.client.status is None


@pytest.mark.parametrize("drains", [False, None])
async def test_relay_left_after_the_finish_reason_reads_on_for_the_usage(
    drains: bool | None,
) -> None:
    """Whatever the policy: nobody gets rid of hidden reasoning by leaving before the report."""
    pump = Pump(drains=drains)
    pump.relay.body_chunk(A)
    pump.relay.body_chunk(OPENAI_FINISH)

    pump.relay.client_left()
    waits = not pump.relay.done.done()
    pump.relay.body_chunk(OPENAI_USAGE)
    pump.relay.body_end()

    assert waits
    assert pump.error is None
    assert pump.relay.read_on
    assert pump.meter.usage.output == 4
    assert pump.client.pieces == [A, OPENAI_FINISH]


async def test_relay_left_after_the_finish_reason_waits_no_longer_than_for_a_silent_finish() -> (
    None
):
    """An upstream that never reports is let go after some seconds."""
    pump = Pump()
    pump.relay.body_chunk(OPENAI_FINISH)
    pump.relay.client_left()

    pump.check_after(SILENT_FINISH_S - 1)
    waits = not pump.relay.done.done()
    pump.check_after(SILENT_FINISH_S + 1)

    assert waits
    assert pump.error is ErrorKind.CLIENT_GONE


async def test_relay_left_with_the_usage_reported_ends_as_drained() -> None:
    """A connection that stays open after the report adds nothing."""
    pump = Pump()
    pump.relay.body_chunk(OPENAI_FINISH)
    pump.relay.client_left()
    pump.relay.body_chunk(OPENAI_USAGE)

    pump.check_after(2)

    assert pump.error is None
    assert pump.relay.read_on


@pytest.mark.parametrize("hides", [True, False])
async def test_policy_auto_reads_on_only_where_reasoning_may_be_hidden(hides: bool) -> None:
    """Elsewhere what was sent is all there is to charge, and stopping stops the bill."""
    pump = Pump(drains=None)
    pump.call.hides_reasoning = hides
    pump.relay.body_chunk(A)

    pump.relay.client_left()

    assert pump.relay.done.done() is not hides
    assert pump.relay.read_on is hides


async def test_client_that_stops_reading_does_not_escape_the_report_either() -> None:
    """Who takes no more bytes after the finish reason fails as slow, charged as reported."""
    pump = Pump(stall_s=0.01)
    pump.relay.body_chunk(A)
    pump.client.slow = True
    pump.relay.body_chunk(OPENAI_FINISH)
    await wait_until(lambda: pump.relay.read_on)

    resumed = not pump.response.paused
    pump.relay.body_chunk(OPENAI_USAGE)
    pump.relay.body_end()

    assert resumed
    assert pump.error is ErrorKind.SLOW_CLIENT
    assert pump.meter.usage.output == 4
