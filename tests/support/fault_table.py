"""The table of what an upstream's faults do, and the calls that meet each of them."""

from __future__ import annotations

import itertools
import os
from typing import NamedTuple

BUSY = {"openai": "503", "anthropic": "529"}
"""The status that means to a client's SDK that the service is busy."""


class Fault(NamedTuple):
    """
    A row of the table.

    Attributes:
        text: What the demo upstream reads; "closed" and "tls" are of the address.
        whole, streamed: What a client gets without a fallback: "text", the status of the error, or
            "breaks" for an error after some text, or "busy" for the status that means it to the
            client. With a fallback a status becomes "text".
        failure: The class that is counted for the deployment of the fault; "": a success. With a
            slash: of a whole response, and of a stream.
        state: That deployment's state after the call, where one failure opens the breaker.
    """

    text: str
    whole: str
    streamed: str
    failure: str
    state: str


TABLE = (
    Fault("closed", "502", "502", "network", "open"),
    Fault("tls", "502", "502", "network", "open"),
    Fault("refuse", "502", "502", "network", "open"),
    Fault("hang_head", "504", "504", "timeout", "open"),
    Fault("hang_stream after=0", "504", "504", "timeout", "open"),
    Fault("hang_stream", "504", "breaks", "timeout", "open"),
    Fault("cut after=0", "502", "502", "network", "open"),
    Fault("cut", "502", "breaks", "network", "open"),
    Fault("end_early after=0", "502", "502", "network", "open"),
    Fault("end_early", "502", "breaks", "network", "open"),
    Fault("garbage after=0", "502", "502", "protocol", "open"),
    Fault("garbage", "502", "breaks", "protocol/network", "open"),
    Fault("wrong_length", "502", "breaks", "network", "open"),
    Fault("rate_limit retry_after_s=90", "429", "429", "rate_limit", "resting"),
    Fault("status", "503", "503", "overload", "ready"),
    Fault("status status=529", "529", "529", "overload", "ready"),
    Fault("status status=500", "500", "500", "upstream", "open"),
    Fault("status status=401", "502", "502", "credential", "out"),
    Fault("status status=402", "busy", "busy", "quota", "out"),
    Fault("drip pace_s=0.005", "text", "text", "", "ready"),
    Fault("error_after_200 after=0", "500", "500", "upstream", "open"),
    Fault("error_after_200", "500", "breaks", "upstream", "open"),
    Fault("duplicate_usage", "text", "text", "", "ready"),
    Fault("huge_event size_bytes=2000000", "text", "text", "", "ready"),
)


class Case(NamedTuple):
    """One call."""

    number: int
    fault: Fault
    client: str
    streamed: bool
    fallback: bool

    @property
    def model(self) -> str:
        """The model that only this call uses, here and at the upstream."""
        return f"case-{self.number:03d}"

    @property
    def name(self) -> str:
        """What distinguishes the case, for a failure's message."""
        how = "streamed" if self.streamed else "whole"
        with_fallback = "fallback" if self.fallback else "alone"
        return f"{self.fault.text}-{how}-{self.client}-{with_fallback}"

    @property
    def alone(self) -> str:
        """What the client gets if there is no fallback."""
        found = self.fault.streamed if self.streamed else self.fault.whole
        return BUSY[self.client] if found == "busy" else found

    @property
    def expected(self) -> str:
        """What the client gets."""
        return "text" if self.fallback and self.alone.isdigit() else self.alone

    @property
    def failure(self) -> str:
        """The class of the failure that is counted; "": a success."""
        return self.fault.failure.split("/")[-1 if self.streamed else 0]


EVERY_CASE = [
    Case(number, *parts)
    for number, parts in enumerate(
        itertools.product(TABLE, ("openai", "anthropic"), (False, True), (False, True))
    )
]


def is_chosen(case: Case) -> bool:
    """Return whether a case is one of the four of its fault that have all pairs."""
    fault, combination = divmod(case.number, 8)
    return (combination.bit_count() + fault) % 2 == 0


CASES = [
    case for case in EVERY_CASE if os.environ.get("CAPIO_FAULTS_LONG") == "1" or is_chosen(case)
]
