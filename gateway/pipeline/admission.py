"""
Admission of calls: the worker's own bounds, then the account's limits and credit.

Beyond the bounds a call is refused at once instead of waiting in a hidden queue, see
`gateway.pipeline.overload`.
"""

from __future__ import annotations

from gateway.core.model import Model, Principal
from gateway.pipeline.call import Call
from gateway.pipeline.overload.loop_turns import LoopTurns
from gateway.pipeline.record import checkpoint
from gateway.pipeline.request.inbound_request import InboundRequest
from gateway.ports import ReservationRequest, Reservations
from gateway.telemetry.call_metrics import CallMetrics


class Admission:
    """
    Counts the calls of this worker as a context manager around each, and reserves for them.

    Args:
        limit: Most concurrent calls, each counted until its response has ended.
        metrics: Shows the count.
        reservations: Limits and credit; None admits every call.
        turns: The event loop's turns; None: calls are not refused because of them.
    """

    __slots__ = ("_in_flight", "_limit", "_metrics", "_reservations", "_turns")

    def __init__(
        self,
        limit: int,
        metrics: CallMetrics,
        reservations: Reservations | None,
        turns: LoopTurns | None = None,
    ) -> None:
        self._in_flight = 0
        self._limit = limit
        self._metrics = metrics
        self._reservations = reservations
        self._turns = turns

    def exceeded(self) -> str | None:
        """Return the bound of the worker that another call would exceed; None if it can start."""
        if self._in_flight >= self._limit:
            return "in_flight"
        if self._turns is not None and self._turns.refuses():
            return "loop_lag"
        return None

    def __enter__(self) -> None:
        """Count a call."""
        self._in_flight += 1
        self._metrics.in_flight = self._in_flight

    def __exit__(self, *_: object) -> None:
        """Uncount the call."""
        self._in_flight -= 1
        self._metrics.in_flight = self._in_flight

    async def reserve_count(self, call: Call, principal: Principal, model: Model) -> None:
        """
        Reserve for a token count, which counts as a request and a concurrent call but is free.

        Raises:
            GatewayError: RATE_LIMITED and the others of `ports.Reservations.reserve`.
        """
        if self._reservations is None:
            return
        call.reservation = await self._reservations.reserve(
            ReservationRequest(
                request_id=call.request_id,
                principal=principal,
                model=model,
                endpoint=call.endpoint,
                client_wire=call.client_wire,
                input_tokens=0,
                input_bound=lambda: 0,
            )
        )

    async def reserve(
        self, call: Call, principal: Principal, model: Model, request: InboundRequest
    ) -> None:
        """
        Reserve what the call may use, to be settled with its record.

        Raises:
            GatewayError: RATE_LIMITED, NO_CREDIT and the others of `ports.Reservations.reserve`.
        """
        if self._reservations is None:
            return
        reservation = ReservationRequest(
            request_id=call.request_id,
            principal=principal,
            model=model,
            endpoint=call.endpoint,
            client_wire=call.client_wire,
            stream=call.stream,
            input_tokens=call.input_estimate,
            max_tokens=request.fields.output_limit,
            choices=request.fields.choices,
            input_bound=request.input_bound,
            hour_cache=request.hour_cache,
            checkpoint=lambda: checkpoint(call),
        )
        call.reservation = await self._reservations.reserve(reservation)

    async def release(self, call: Call) -> None:
        """Release the call's reservation, before another model serves it."""
        reservation, call.reservation = call.reservation, None
        if reservation is not None and self._reservations is not None:
            await self._reservations.release(reservation)
