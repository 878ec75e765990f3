"""
Settlement of a finished call: its outcome, the usage that counts, and its cost.

| outcome | when | charged |
| --- | --- | --- |
| completed | the response is complete and its usage reported | the reported usage |
| estimated | the response is complete, but no usage was reported | estimated input and output |
| cancelled | the client left, the upstream was closed | the input and the output so far |
| drained | the client left, the response was read to its end | reported or estimated usage |
| insured | it failed without output, although the upstream reported usage | nothing |
| failed | it failed | the delivered output and its input; without output nothing |

A process that dies leaves `abandoned` calls, which the sweeper settles by their last checkpoint.
"""

from __future__ import annotations

from gateway.core.model import Usage
from gateway.core.pricing import cost_nanousd
from gateway.errors import ErrorKind
from gateway.pipeline.call import Call


def settle(call: Call) -> None:
    """Set the outcome, usage and costs of a call that has ended."""
    call.outcome = _outcome(call)
    attempt = call.attempt
    if attempt is None:
        return
    if call.outcome == "cancelled" and attempt.usage == Usage() and not attempt.given_up:
        attempt.usage = Usage(input=call.input_estimate)
        attempt.estimated = True
    charged = attempt.delivered or call.error is None or call.outcome in ("cancelled", "drained")
    if call.outcome != "insured" and charged:
        call.cost_nanousd = cost_so_far(call)
    cost = attempt.deployment.cost
    if cost is not None:
        call.upstream_cost_nanousd = cost_nanousd(attempt.usage, cost) + call.lost_nanousd


def cost_so_far(call: Call) -> int:
    """Return the cost of the usage in `call` for its account, in nano-dollars."""
    return cost_nanousd(call.usage, call.model.prices) if call.model is not None else 0


def _outcome(call: Call) -> str:
    error, attempt = call.error, call.attempt
    if error is None:
        return "estimated" if attempt is not None and attempt.estimated else "completed"
    if error.kind is ErrorKind.CLIENT_GONE:
        return "drained" if call.drained else "cancelled"
    if attempt is not None and not attempt.delivered and attempt.usage != Usage():
        return "insured"
    return "failed"
