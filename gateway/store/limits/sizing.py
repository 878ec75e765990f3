"""What a call holds until it ends: money and tokens expected, and the most it can cost."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.model import CallRecord, Endpoint
from gateway.core.output_estimate import OutputEstimator
from gateway.core.pricing import dearest_input, most_nanousd, worst_case_nanousd
from gateway.ports import Reservation, ReservationRequest
from gateway.settings import Money

_LEAST_OUTPUT = 64
"""Translators and upstreams raise smaller limits to a minimum of their own."""
_AMPLE = 16
"""With room for this many calls of a full context, the input need not be bounded more closely."""
MOST_NANOUSD = 9_000_000_000_000_000
"""The highest cost of a call: above any balance, and exact in the scripts."""


class ReservationSizer:
    """
    Sizes the reservations of one worker.

    Args:
        money: The `money` section.
        room: Returns an account's last known room, see `FallbackLimiter.room`.
    """

    def __init__(self, money: Money, room: Callable[[str], int | None]) -> None:
        self._output_ceiling = money.output_ceiling
        self._output_estimator = OutputEstimator(money.default_output)
        self._room = room

    def size(self, request: ReservationRequest) -> Reservation:
        """Return the reservation of a call that is not admitted yet."""
        if request.endpoint is Endpoint.COUNT_TOKENS:
            return Reservation(request=request, hold_nanousd=0, worst_nanousd=0, tokens=0)
        model = request.model
        longest = model.max_output if request.max_tokens is None else request.max_tokens
        output = request.choices * self._output_estimator.expected(
            request.principal.key_id, model.name, min(longest, self._output_ceiling)
        )
        hold = min(most_nanousd(request.input_tokens, output, model.prices), MOST_NANOUSD)
        return Reservation(
            request=request,
            hold_nanousd=hold,
            worst_nanousd=max(hold, self._worst_case(request)),
            tokens=min(request.input_tokens + output, MOST_NANOUSD),
        )

    def observe(self, request: ReservationRequest, event: CallRecord) -> None:
        """Learn the output of a completed call."""
        if event.outcome == "completed":
            output = event.usage.output + event.usage.reasoning
            self._output_estimator.observe(event.key_id, event.model, -(-output // request.choices))

    def _worst_case(self, request: ReservationRequest) -> int:
        """Return the most the call can cost if the upstream honours its limits."""
        model = request.model
        # Some upstreams treat a limit of 0 as none. A limit above `max_output` counts as given, up
        # to the context, in case the catalogue is wrong.
        longest = min(max(request.max_tokens or model.max_output, _LEAST_OUTPUT), model.context)
        output = longest * request.choices
        context = max(model.context, request.input_tokens)
        worst = worst_case_nanousd(context, output, model.prices)
        room = self._room(request.principal.account_id)
        if room is not None and room < _AMPLE * worst and dearest_input(model.prices) > 0:
            # Both read the whole body: a fraction of a millisecond for a large one.
            bound = request.input_bound()
            tokens = context if bound is None else min(context, max(bound, request.input_tokens))
            worst = worst_case_nanousd(
                tokens, output, model.prices, hour_cache=request.hour_cache()
            )
        return min(worst, MOST_NANOUSD)
