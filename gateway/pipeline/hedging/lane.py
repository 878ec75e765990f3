"""One of several concurrent attempts, each with its own view of the call and its client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gateway.core.routing.plan import Candidate
from gateway.pipeline.call import Call
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.request.context import CallContext
from gateway.ports import Headers

ATTEMPTS = b"x-capio-attempts"


class LostRaceError(Exception):
    """The response of another attempt has started, or is about to."""


class LaneChannel(ClientChannel):
    """
    The client as one attempt sees it: its response starts only if no other one has.

    Args:
        client: The client.
        claim: Raises LostRaceError unless the attempt is the first to respond.
        may_start: Returns whether a silent stream may start.
        call: The attempt's; its origin has the number of attempts.
    """

    __slots__ = ("_call", "_claim", "_client", "_may_start")

    def __init__(
        self,
        client: ClientChannel,
        claim: Callable[[], None],
        may_start: Callable[[float], bool],
        call: Call,
    ) -> None:
        super().__init__(client.scope, _receive_nothing, _send_nothing)
        self._client = client
        self._claim = claim
        self._may_start = may_start
        self._call = call

    @property
    def gone(self) -> bool:
        """Whether the client is known to have left."""
        return self._client.gone

    @property
    def holds(self) -> bool:
        """Whether a stream must wait for its first content."""
        return True

    def may_start(self, now: float) -> bool:
        """Return whether a stream without content may start."""
        return self._may_start(now)

    def claim(self) -> None:
        """
        Win, unless another attempt has won.

        Raises:
            LostRaceError: Another one has.
        """
        self._claim()

    def start(self, status: int, headers: Headers) -> None:
        """
        Send the response head.

        Raises:
            LostRaceError: Another attempt has won.
        """
        self._claim()
        made = (self._call.origin or self._call).attempts
        counted = b"%d" % made
        headers = [(name, counted if name == ATTEMPTS else value) for name, value in headers]
        self._client.start(status, headers)
        self.started = True

    def detach(self) -> None:
        """Forget the race, which has ended: no reference cycle remains of a call."""
        self._claim, self._may_start = _lose, _never

    def try_write(self, chunk: bytes) -> Awaitable[None] | None:
        """Write, without waiting if possible, see `ClientChannel.try_write`."""
        return self._client.try_write(chunk)

    async def end(self, chunk: bytes = b"") -> None:
        """Send the last bytes and complete the response."""
        self.ended = True
        await self._client.end(chunk)


class Lane:
    """
    One attempt of a race.

    Args:
        context: The call's; the lane gets its own copy.
        candidate: The deployment.
        hedge: Whether it is the second attempt, because the first one is slow.
        claim: Called with the lane when its response is about to start.
        may_start: Returns whether a silent stream may start.
    """

    __slots__ = ("_channel", "candidate", "context", "task")

    def __init__(
        self,
        context: CallContext,
        candidate: Candidate,
        *,
        hedge: bool,
        claim: Callable[[Lane], None],
        may_start: Callable[[float], bool],
    ) -> None:
        call = context.call.fork(hedge=hedge)
        self._channel = LaneChannel(context.channel, lambda: claim(self), may_start, call)
        self.candidate = candidate
        self.context = msgspec.structs.replace(context, call=call, channel=self._channel)
        self.task: asyncio.Task[Any] | None = None

    @property
    def runs(self) -> bool:
        """Whether the attempt is running."""
        return self.task is not None and not self.task.done()

    def cancel(self, *, lost: bool) -> None:
        """End the attempt; `lost`: another one won, and the operator bears the cost of this one."""
        if self.task is not None and not self.task.done():
            self.context.call.lost = lost
            self.task.cancel()

    def close(self) -> None:
        """Release what the attempt refers to, once it has ended."""
        self._channel.detach()
        self.task = None


def _lose() -> None:
    raise LostRaceError


def _never(_: float) -> bool:
    return False


async def _receive_nothing() -> dict[str, Any]:
    raise RuntimeError("an attempt does not read the request")


async def _send_nothing(_: dict[str, Any]) -> None:
    raise RuntimeError("an attempt writes through the client's channel")
