"""
Sends one call to a second deployment if the first one is slow; the first content wins.

Rules.
1. The response of at most one attempt starts: it claims the call, and the other one is cancelled in
   the same turn of the loop. A stream claims with its first content, a whole response when it was
   read; until then nothing of either is sent.
2. If an attempt fails, the other one continues, provided that the failure permits another
   deployment.
3. The attempt that is cancelled is neither a success nor a failure of its deployment.
4. No attempt outlives the race.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from gateway.core.model import Endpoint
from gateway.core.routing.failures import RULES
from gateway.core.routing.order import AttemptOrder, Failure
from gateway.core.routing.plan import Candidate
from gateway.errors import GatewayError
from gateway.pipeline.hedging.lane import Lane, LostRaceError
from gateway.pipeline.request.context import CallContext
from gateway.pipeline.request.inbound_request import InboundRequest
from gateway.pipeline.response.clocks import COMMIT_S

_STATE: Final = re.compile(rb'"store"\s*:\s*true|"(?:container|thread|mcp_servers)"\s*:')
"""Requests for which an upstream stores or runs something, which must not happen twice."""


class Tried:
    """The result of an attempt: the body that was sent, if it was read whole, or the error."""

    __slots__ = ("_error", "body", "candidate", "failure", "other_credential")

    def __init__(
        self,
        candidate: Candidate,
        body: bytes | None = None,
        error: GatewayError | None = None,
        failure: Failure | None = None,
        *,
        other_credential: bool = False,
    ) -> None:
        self.candidate = candidate
        self.body = body
        self.failure = failure
        """None: it succeeded."""
        self.other_credential = other_credential
        """Another credential of the provider is ready."""
        self._error = error

    def take_error(self) -> GatewayError:
        """Return and remove the error, so that its traceback forms no reference cycle."""
        error, self._error = self._error, None
        assert error is not None
        return error


Try = Callable[[CallContext, Candidate], Awaitable[Tried]]


class Race:
    """
    Runs one call at one deployment, and at a second one if the first is slow.

    Args:
        context: The call's.
        order: Chooses the second deployment.
        run: Runs an attempt and records its result.
        is_ready: Returns whether a deployment takes calls.
        may_hedge: Returns whether the budget permits a hedge, and counts it.
    """

    def __init__(
        self,
        context: CallContext,
        order: AttemptOrder,
        run: Try,
        *,
        is_ready: Callable[[Candidate], bool],
        may_hedge: Callable[[], bool],
    ) -> None:
        self._context = context
        self._order = order
        self._run = run
        self._is_ready = is_ready
        self._may_hedge = may_hedge
        self._lanes: list[Lane] = []
        self._winner: Lane | None = None
        self._last: Lane | None = None
        self._silent_until = 0.0
        self.hedge: Lane | None = None
        """The second attempt, if there is one."""
        self.refused = False
        """Whether the budget did not permit a second attempt."""

    @property
    def result(self) -> str:
        """The result of the second attempt: `won`, `lost` or `failed`."""
        if self.hedge is None:
            return "none"
        if self.hedge is self._winner:
            return "won"
        return "lost" if self.hedge.context.call.lost else "failed"

    async def run(self, first: Candidate, delay_s: float) -> Tried:
        """
        Return the result of the attempt that counts.

        Args:
            first: The first deployment.
            delay_s: How long it may take before the call is hedged.
        """
        self._silent_until = monotonic() + delay_s + COMMIT_S
        interruption: BaseException | None = None
        tried: Tried | None = None
        try:
            lane = self._start(first, hedge=False)
            await asyncio.wait(self._tasks(), timeout=delay_s)
            self._hedge(lane)
            while tried is None:
                await asyncio.wait(self._tasks(), return_when=asyncio.FIRST_COMPLETED)
                tried = self._ended()
        except BaseException as raised:  # noqa: BLE001 # raised below
            interruption = raised
        await self._end()
        if interruption is not None:
            try:
                raise interruption
            finally:
                interruption = None  # its traceback refers to this frame
        assert tried is not None
        return tried

    def _start(self, candidate: Candidate, *, hedge: bool) -> Lane:
        lane = Lane(
            self._context, candidate, hedge=hedge, claim=self._claim, may_start=self._may_start
        )
        lane.task = asyncio.ensure_future(self._run(lane.context, candidate))
        self._lanes.append(lane)
        return lane

    def _hedge(self, first: Lane) -> None:
        """Start a second attempt, unless the first one has responded or the client has left."""
        self._silent_until = 0.0
        if not first.runs or self._winner is not None or self._context.channel.gone:
            return
        if not self._order.has_ready(self._is_ready):
            return
        if not self._may_hedge():
            self.refused = True
            return
        candidate = self._order.hedge(self._is_ready)
        if candidate is not None:
            self._silent_until = monotonic() + COMMIT_S
            self.hedge = self._start(candidate, hedge=True)

    def _claim(self, lane: Lane) -> None:
        if self._winner is None:
            self._winner = lane
            self._context.call.adopt(lane.context.call)
            for other in self._lanes:
                if other is not lane:
                    other.cancel(lost=True)
        elif self._winner is not lane:
            raise LostRaceError

    def _may_start(self, now: float) -> bool:
        return now >= self._silent_until

    def _tasks(self) -> list[asyncio.Task[Tried]]:
        return [lane.task for lane in self._lanes if lane.task is not None]

    def _ended(self) -> Tried | None:
        """Return the result of the race; None: an attempt is still running."""
        for lane in self._lanes:
            if lane.task is None or not lane.task.done():
                continue
            if self._winner not in (None, lane):
                continue
            tried: Tried = lane.task.result()
            if self._winner is lane or not self._continues(lane, tried.failure):
                self._last = lane
                return tried
            lane.task = None
        return None

    def _continues(self, ended: Lane, failure: Failure | None) -> bool:
        """Return whether another attempt may still serve the call, and note the failure."""
        others = any(lane.runs for lane in self._lanes if lane is not ended)
        if failure is None or not others or self._context.channel.gone:
            return False
        if not RULES[failure.kind].fallback:
            return False
        self._order.note_failure(ended.candidate, failure, monotonic())
        return True

    async def _end(self) -> None:
        """End running attempts; the one that counts responded, failed last, or is still running."""
        runs = next((lane for lane in self._lanes if lane.runs), self._lanes[-1])
        counts = self._winner or self._last or runs
        for lane in self._lanes:
            lane.cancel(lost=lane is not counts)
        await asyncio.gather(*self._tasks(), return_exceptions=True)
        context, kept = self._context, counts.context
        # A winner may end before the loser has noticed.
        context.call.chain.sort(key=lambda each: each.result == "ok")
        context.call.adopt(kept.call)
        context.without_reasoning = context.without_reasoning or kept.without_reasoning
        for lane in self._lanes:
            lane.close()


def may_repeat(endpoint: Endpoint, request: InboundRequest) -> bool:
    """
    Return whether a request may be sent to two deployments at the same time.

    It may not if an upstream stores or runs something for it, or charges for more than tokens.
    """
    if endpoint is Endpoint.COUNT_TOKENS or request.fields.priced:
        return False
    return _STATE.search(request.body) is None
