"""
The state of one call, from its request head to its record.

Mutable: the phases fill it in, `record` reads it. It never holds a raw key or a body.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.idempotency import Hold
from gateway.core.model import AttemptRecord, Deployment, Endpoint, Model, Principal, Usage, Wire
from gateway.errors import GatewayError
from gateway.ports import Reservation
from gateway.protocols.streams.meter import StreamMeter

_WITHOUT_OUTPUT = (Endpoint.COUNT_TOKENS, Endpoint.EMBEDDINGS)


# A msgspec struct takes twice as long to assign to, which each chunk does.
@dataclass(slots=True, eq=False)
class Attempt:
    """One request to one deployment, and what came back; times are monotonic seconds."""

    deployment: Deployment
    wire: Wire
    sent_at: float
    given_up: bool = False
    """It failed, and the call waits for its next attempt."""
    first_content_at: float | None = None
    last_content_at: float | None = None
    content_count: int = 0
    upstream_request_id: str | None = None
    meter: StreamMeter | None = None
    """Knows the usage so far of a stream."""
    usage: Usage = field(default_factory=Usage)
    estimated: bool = False
    unreadable_usage: bool = False
    """Usage was reported, but is implausible."""
    delivered: bool = False
    """Some of the response's content was sent to the client."""
    finish_reason: str | None = None

    def usage_so_far(self, input_estimate: int) -> Usage:
        """Return what to charge if the process dies now."""
        if self.meter is not None:
            return self.meter.settled(input_estimate)
        return self.usage if self.given_up else Usage(input=input_estimate)


class Call:
    """
    The state of one call.

    Times are monotonic seconds; `outcome` is decided at the end, see `pipeline.settlement`.
    """

    __slots__ = (
        "address",
        "attempt",
        "attempts",
        "chain",
        "client_wire",
        "cost_nanousd",
        "drained",
        "dropped",
        "ended_at",
        "endpoint",
        "error",
        "first_sent_at",
        "hides_reasoning",
        "hold",
        "input_estimate",
        "model",
        "model_asked",
        "outcome",
        "principal",
        "request_id",
        "reservation",
        "started_at",
        "status",
        "stream",
        "upstream_cost_nanousd",
        "user_agent",
    )

    def __init__(self, request_id: str, endpoint: Endpoint, client_wire: Wire, now: float) -> None:
        self.request_id = request_id
        self.endpoint = endpoint
        self.client_wire = client_wire
        self.started_at = now
        self.first_sent_at: float | None = None
        self.ended_at: float | None = None
        self.principal: Principal | None = None
        self.model: Model | None = None
        self.model_asked = ""
        self.stream = False
        self.attempts = 0
        self.chain: list[AttemptRecord] = []
        self.attempt: Attempt | None = None
        """The current or last attempt."""
        self.status = 0
        self.outcome = "failed"
        self.error: GatewayError | None = None
        self.hold: Hold | None = None
        """The claim on the call's Idempotency-Key."""
        self.input_estimate = 0
        # Drained: the client left and the response was read on for its usage. Hides reasoning: the
        # current attempt's model may bill reasoning that it does not send.
        self.drained = self.hides_reasoning = False
        self.reservation: Reservation | None = None
        self.cost_nanousd = 0
        self.upstream_cost_nanousd: int | None = None
        self.dropped: tuple[str, ...] = ()
        self.address: str | None = None
        self.user_agent: str | None = None

    @property
    def outlives_client(self) -> bool:
        """A whole response under an Idempotency-Key is completed for the client's retry."""
        return self.hold is not None and not self.stream

    @property
    def deployment(self) -> Deployment | None:
        """The deployment of the current or last attempt."""
        return None if self.attempt is None else self.attempt.deployment

    @property
    def usage(self) -> Usage:
        """The usage of the current or last attempt."""
        return Usage() if self.attempt is None else self.attempt.usage

    @property
    def reads_on(self) -> bool:
        """The current attempt is read on for its usage when the client leaves."""
        if self.attempt is None or self.endpoint in _WITHOUT_OUTPUT:
            return False
        drains = self.attempt.deployment.provider.drains
        return self.hides_reasoning if drains is None else drains

    def note_attempt(
        self, deployment: Deployment, result: str, status: int, seconds: float
    ) -> None:
        """Add an ended attempt to the chain."""
        model = "" if self.model is None else self.model.name
        ms = round(seconds * 1000)
        self.chain.append(AttemptRecord(deployment.label, model, result, status, ms))

    def begin_attempt(self, deployment: Deployment, wire: Wire, now: float) -> Attempt:
        """Return a new attempt, which is sent at `now`."""
        self.attempts += 1
        if self.first_sent_at is None:
            self.first_sent_at = now
        self.attempt = Attempt(deployment, wire, now)
        return self.attempt
