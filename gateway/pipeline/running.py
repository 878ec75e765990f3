"""
The running calls of a worker, and their end when the worker stops.

When the grace period is over, each call is asked to end with an error that its client can read;
a call that does not end soon, because its client reads nothing, is cancelled. Either way it is
settled.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

from gateway.core.routing.live import LiveLine
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.live import LiveCounts

ASKED_S = 4.0
"""How long calls may take to end with an error."""
CANCELLED_S = 3.0
"""How long cancelled calls may take to be settled."""
_POLL_S = 0.02


class Running(Protocol):
    """A call that has not ended."""

    def end(self, error: GatewayError) -> None:
        """End soon with `error`."""

    def cancel(self) -> None:
        """End at once; the client's connection breaks."""


class RunningCalls:
    """The calls of one worker that are not settled yet."""

    __slots__ = ("_calls", "_counts")

    def __init__(self) -> None:
        self._calls: dict[Running, Call] = {}
        self._counts = LiveCounts(monotonic())

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, running: Running, call: Call) -> None:
        """Count a call from its first moment."""
        self._calls[running] = call

    def discard(self, running: Running) -> None:
        """Forget a call that is settled. Idempotent."""
        call = self._calls.pop(running, None)
        if call is not None:
            self._counts.ended(call)

    def live(self) -> tuple[LiveLine, ...]:
        """Return the calls of the last minute; call it every `core.routing.live.EVERY_S`."""
        return self._counts.lines(self._calls.values(), monotonic())

    async def end_all(self, asked_s: float = ASKED_S, cancelled_s: float = CANCELLED_S) -> int:
        """End every call; return how many had to be cancelled."""
        error = stopping()
        for call in tuple(self._calls):
            call.end(error)
        if await self.ended(asked_s):
            return 0
        left = tuple(self._calls)
        for call in left:
            call.cancel()
        await self.ended(cancelled_s)
        return len(left)

    async def ended(self, timeout_s: float) -> bool:
        """Wait until no call is left; return False if that takes longer."""
        deadline = monotonic() + timeout_s
        while self._calls:
            if monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True


def stopping() -> GatewayError:
    """Return the error of a call that is ended because its worker ends."""
    return GatewayError(
        ErrorKind.STOPPING, "The gateway is restarting. Send the request again.", retry_after_s=1
    )
