"""
Settlement of a finished call: its outcome, the usage that counts, and its cost.

| outcome | when | charged |
| --- | --- | --- |
| completed | the response is complete and its usage reported | the reported usage |
| estimated | the response is complete, but no usage was reported | input and output as estimated |
| cancelled | the client left, the upstream was closed | the input and the output so far |
| drained | the client left, the response was read to its end | the report, else the estimate |
| insured | it failed without output, though the upstream reported usage | nothing |
| failed | it failed | the output that was delivered and its input; without output nothing |

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
    if call.outcome == "cancelled" and call.usage == Usage() and call.sent_at is not None:
        call.usage = Usage(input=call.input_estimate)
        call.estimated = True
    charged = call.delivered or call.error is None or call.outcome in ("cancelled", "drained")
    if call.outcome != "insured" and charged:
        call.cost_nanousd = cost_so_far(call)
    cost = call.deployment.cost if call.deployment is not None else None
    call.upstream_cost_nanousd = cost_nanousd(call.usage, cost) if cost is not None else None


def cost_so_far(call: Call) -> int:
    """Return what the usage in `call` costs its account, in nano-dollars."""
    return cost_nanousd(call.usage, call.model.prices) if call.model is not None else 0


def _outcome(call: Call) -> str:
    error = call.error
    if error is None:
        return "estimated" if call.estimated else "completed"
    if error.kind is ErrorKind.CLIENT_GONE:
        return "drained" if call.drained else "cancelled"
    if not call.delivered and call.usage != Usage():
        return "insured"
    return "failed"
