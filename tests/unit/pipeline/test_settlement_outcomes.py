"""The settlement table: which outcome a call has, which usage counts, and what it costs."""

from __future__ import annotations

import pytest

from gateway.core.model import Endpoint, Prices, Usage, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.settlement import cost_so_far, settle
from tests.support.pipeline_fakes import a_deployment, a_model, a_provider

USAGE = Usage(input=10, output=4)
COST = 10 + 2 * 4
UPSTREAM_COST = Prices(
    input=500_000, output=500_000, cache_read=0, cache_write=0, reasoning=500_000
)


def ended(kind: ErrorKind | None = None, **state: object) -> Call:
    """A call that has ended, and is settled."""
    call = Call("req_1", Endpoint.CHAT_COMPLETIONS, Wire.OPENAI, 0.0)
    deployment = a_deployment(a_provider(), UPSTREAM_COST)
    attempt = call.begin_attempt(deployment, Wire.OPENAI, 1.0)
    call.model = a_model(deployment)
    call.input_estimate = 25
    if kind is not None:
        call.error = GatewayError(kind, "")
    for name, value in state.items():
        setattr(attempt if hasattr(attempt, name) else call, name, value)
    settle(call)
    return call


@pytest.mark.parametrize(
    ("kind", "state", "outcome", "cost"),
    [
        (None, {"delivered": True, "usage": USAGE}, "completed", COST),
        (None, {"delivered": True, "usage": USAGE, "estimated": True}, "estimated", COST),
        (None, {}, "completed", 0),
        (ErrorKind.CLIENT_GONE, {"delivered": True, "usage": USAGE}, "cancelled", COST),
        (ErrorKind.CLIENT_GONE, {"usage": USAGE}, "cancelled", COST),
        (ErrorKind.CLIENT_GONE, {}, "cancelled", 25),
        (ErrorKind.CLIENT_GONE, {"given_up": True}, "cancelled", 0),
        (
            ErrorKind.CLIENT_GONE,
            {"drained": True, "delivered": True, "usage": USAGE},
            "drained",
            COST,
        ),
        (ErrorKind.UPSTREAM_BROKEN, {"delivered": True, "usage": USAGE}, "failed", COST),
        (ErrorKind.SLOW_CLIENT, {"delivered": True, "usage": USAGE}, "failed", COST),
        (ErrorKind.UPSTREAM_BROKEN, {}, "failed", 0),
        (ErrorKind.UPSTREAM_MALFORMED, {"usage": USAGE}, "insured", 0),
        (ErrorKind.INTERNAL, {}, "failed", 0),
        (ErrorKind.RATE_LIMITED, {"given_up": True}, "failed", 0),
    ],
)
def test_call_is_settled_by_how_it_ended(
    kind: ErrorKind | None, state: dict[str, object], outcome: str, cost: int
) -> None:
    """Each way to end has its outcome and its charge."""
    call = ended(kind, **state)

    assert (call.outcome, call.cost_nanousd) == (outcome, cost)


def test_cancelled_call_without_report_is_charged_its_estimated_input() -> None:
    """The upstream has read the prompt, whatever it said."""
    call = ended(ErrorKind.CLIENT_GONE)

    assert (call.usage, call.attempt and call.attempt.estimated) == (Usage(input=25), True)


def test_insured_call_still_costs_upstream() -> None:
    """What the gateway bears is on record."""
    call = ended(ErrorKind.UPSTREAM_MALFORMED, usage=USAGE)

    assert (call.cost_nanousd, call.upstream_cost_nanousd) == (0, 7)


def test_upstream_cost_is_unknown_without_prices() -> None:
    """Unknown is not zero."""
    assert ended(deployment=a_deployment(a_provider())).upstream_cost_nanousd is None
    assert ended(attempt=None).upstream_cost_nanousd is None


def test_call_without_a_model_costs_nothing() -> None:
    """A call that was refused early has no prices."""
    call = Call("req_1", Endpoint.CHAT_COMPLETIONS, Wire.OPENAI, 0.0)

    assert cost_so_far(call) == 0
