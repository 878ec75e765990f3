"""What a relay promises whatever the schedule of chunks, slow writes, clocks and ends."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.response.clocks import SILENT_FINISH_S
from gateway.protocols.streams.relayed import RelayedStream
from tests.support.pipeline_bench import Pump
from tests.support.pipeline_fakes import COMMENT, OPENAI_FINISH, OPENAI_USAGE, openai_event

STEPS = st.lists(
    st.sampled_from(
        ["chunk", "half", "comment", "usage", "finish", "slow", "quick", "turn", "check"]
    ),
    max_size=30,
)
ENDS = st.sampled_from(["end", "fail", "leave", "stop", "none"])


class Schedule:
    """Plays steps on a pump and remembers what the upstream said."""

    def __init__(self, pump: Pump) -> None:
        self.pump = pump
        self.said = b""
        self._number = 0
        self.at = 0.0

    async def play(self, step: str) -> None:
        """Take one step."""
        client = self.pump.client
        if step in ("slow", "quick"):
            client.slow = step == "slow"
            if not client.slow and client.waits:
                await client.take()
        elif step == "turn":
            await asyncio.sleep(0)
        elif step == "check":
            self.at += 1.0
            self.pump.check_after(self.at)
        elif not self.pump.response.paused and not self.pump.relay.done.done():
            for chunk in self._chunks(step):
                self.said += chunk
                self.pump.relay.body_chunk(chunk)

    def _chunks(self, step: str) -> list[bytes]:
        self._number += 1
        event = openai_event(f"<{self._number}>")
        known = {"comment": COMMENT, "usage": OPENAI_USAGE, "finish": OPENAI_FINISH}
        if step == "half":
            return [event[:20], event[20:]]
        return [known.get(step, event)]

    async def finish(self, end: str) -> None:
        """End the relay one way or the other, and let a slow client take what waits."""
        relay = self.pump.relay
        if end == "end":
            relay.body_end()
        elif end == "fail":
            relay.body_failed(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))
        elif end == "leave":
            self.pump.client.leave()
            relay.client_left()
        elif end == "stop":
            relay.stop(GatewayError(ErrorKind.UPSTREAM_TIMEOUT, "late"))
        self.pump.client.slow = False
        while self.pump.client.waits:
            await self.pump.client.take()
        for _ in range(3):
            await asyncio.sleep(0)


@given(steps=STEPS, end=ENDS, drains=st.booleans())
async def test_relay_gives_every_byte_once_and_in_order(
    steps: list[str], end: str, drains: bool
) -> None:
    """What the client got is always a beginning of what the upstream said; all of it at an end."""
    pump = Pump(drains=drains)
    schedule = Schedule(pump)

    for step in steps:
        await schedule.play(step)
    ended_by_itself = pump.relay.done.done()
    await schedule.finish(end)

    assert schedule.said.startswith(pump.client.body)
    if end == "end" and not ended_by_itself and b"data" in schedule.said:
        assert pump.error is None
        assert pump.client.body == schedule.said
    if end == "stop":
        assert pump.relay.done.done()
    if end == "leave" and not drains:
        if not pump.relay.done.done():  # the content has ended: its usage is waited for
            assert b"finish_reason" in schedule.said
            pump.check_after(schedule.at + SILENT_FINISH_S + 1.0)
        assert pump.relay.done.done()
    await pump.relay.writer.aclose()


@given(steps=STEPS, drains=st.booleans())
async def test_relay_that_hides_usage_loses_nothing_else(steps: list[str], drains: bool) -> None:
    """The client gets every event but those of the usage, whole and in order."""
    pump = Pump(drains=drains, transform=RelayedStream(Wire.OPENAI, "m", hides_usage=True))
    schedule = Schedule(pump)

    for step in steps:
        await schedule.play(step)
    ended_by_itself = pump.relay.done.done()
    await schedule.finish("end")

    shown = schedule.said.replace(OPENAI_USAGE, b"")
    assert shown.startswith(pump.client.body)
    if not ended_by_itself and b"data" in shown and not schedule.said.startswith(OPENAI_USAGE):
        assert pump.client.body == shown
    await pump.relay.writer.aclose()


@given(steps=STEPS, late=st.lists(ENDS, min_size=1, max_size=4), drains=st.booleans())
async def test_relay_has_one_result_whatever_ends_it(
    steps: list[str], late: list[str], drains: bool
) -> None:
    """The first end counts; later ones change nothing, and nothing is written after it."""
    pump = Pump(drains=drains)
    schedule = Schedule(pump)
    for step in steps:
        await schedule.play(step)
    await schedule.finish("stop")
    first = pump.relay.done.result()
    written = pump.client.body

    for end in late:
        await schedule.finish(end)
    pump.relay.body_chunk(openai_event("after"))

    assert pump.relay.done.result() is first
    assert pump.client.body == written
    await pump.relay.writer.aclose()
