"""
Who may start a call now: the worker's own cap, then the caller's limits and credit.

Beyond the cap a call is refused at once with a second's wait, instead of waiting in a queue that
nobody sees.
"""

from __future__ import annotations

from gateway.core.model import Model, Principal
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.finish import checkpoint
from gateway.pipeline.front import InboundRequest
from gateway.ports import Reservations, ReserveAsk
from gateway.telemetry.call_metrics import CallMetrics


class Admission:
    """
    Counts the calls of this worker, a context manager around each; takes their reservations.

    Args:
        limit: Calls at the same time, each to the end of its answer.
        metrics: Shows the count.
        reservations: Limits and holds; None admits everybody.
    """

    __slots__ = ("_in_flight", "_limit", "_metrics", "_reservations")

    def __init__(self, limit: int, metrics: CallMetrics, reservations: Reservations | None) -> None:
        self._in_flight = 0
        self._limit = limit
        self._metrics = metrics
        self._reservations = reservations

    def __enter__(self) -> None:
        """
        Take a place.

        Raises:
            GatewayError: OVERLOADED.
        """
        if self._in_flight >= self._limit:
            raise GatewayError(
                ErrorKind.OVERLOADED, "Too many open requests. Try again.", retry_after_s=1
            )
        self._in_flight += 1
        self._metrics.in_flight = self._in_flight

    def __exit__(self, *_: object) -> None:
        """Give the place back."""
        self._in_flight -= 1
        self._metrics.in_flight = self._in_flight

    async def reserve_count(self, call: Call, principal: Principal, model: Model) -> None:
        """
        Count a token count among the caller's requests and concurrent calls; it costs nothing.

        Raises:
            GatewayError: RATE_LIMITED and the others of `ports.Reservations.reserve`.
        """
        if self._reservations is None:
            return
        call.reservation = await self._reservations.reserve(
            ReserveAsk(
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
        self, call: Call, principal: Principal, model: Model, front: InboundRequest
    ) -> None:
        """
        Take what the call may use, to be settled with its record.

        Raises:
            GatewayError: RATE_LIMITED, NO_CREDIT and the others of `ports.Reservations.reserve`.
        """
        if self._reservations is None:
            return
        ask = ReserveAsk(
            request_id=call.request_id,
            principal=principal,
            model=model,
            endpoint=call.endpoint,
            client_wire=call.client_wire,
            stream=call.stream,
            input_tokens=call.input_estimate,
            max_tokens=front.fields.output_limit,
            choices=front.fields.choices,
            input_bound=front.input_bound,
        )
        call.reservation = await self._reservations.reserve(ask)
        call.reservation.checkpoint = lambda: checkpoint(call)
