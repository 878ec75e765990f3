"""
The state of one call, from its request head to its record.

Mutable: the phases fill it in, `record` reads it. It never holds a raw key or a body.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.idempotency import GrantedClaim
from gateway.core.model import AttemptRecord, Deployment, Endpoint, Model, Principal, Usage, Wire
from gateway.errors import GatewayError
from gateway.pipeline.tracing.call_trace import CallTrace
from gateway.ports import Reservation
from gateway.protocols.streams.meter import StreamMeter

_OF_ATTEMPT = ("attempt", "drained", "dropped", "hides_reasoning", "status")
_FIELDS = (
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
    "granted_claim",
    "hedge",
    "hides_reasoning",
    "input_estimate",
    "lost",
    "lost_nanousd",
    "model",
    "model_asked",
    "origin",
    "outcome",
    "principal",
    "request_id",
    "reservation",
    "spans",
    "started_at",
    "status",
    "stream",
    "trace",
    "upstream_cost_nanousd",
    "user_agent",
)
_WITHOUT_OUTPUT = (Endpoint.COUNT_TOKENS, Endpoint.EMBEDDINGS)


# A msgspec struct takes twice as long to assign to, which each chunk does.
@dataclass(slots=True, eq=False)
class Attempt:
    """One request to one deployment, and its result; times are monotonic seconds."""

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
    """Has the usage of a stream so far."""
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


@dataclass(slots=True, eq=False)
class AttemptSpan:
    """An attempt of a call whose trace is exported."""

    span_id: str
    attempt: Attempt
    ended_at: float | None = None
    """Monotonic seconds."""
    status: int = 0
    """The upstream's HTTP status; 0: there was none."""
    error: str | None = None


class Call:
    """
    The state of one call.

    Times are monotonic seconds; `outcome` is decided at the end, see `pipeline.settlement`.
    """

    __slots__ = _FIELDS

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
        self.granted_claim: GrantedClaim | None = None
        """The claim on the call's Idempotency-Key."""
        self.input_estimate = 0
        # drained: the client left, and the response was read to its end for the usage.
        # hides_reasoning: the current attempt's model may bill reasoning that it does not send.
        self.drained = self.hides_reasoning = False
        # Of a fork: the call it was forked from; whether it hedges a slow attempt; whether another
        # fork was faster.
        self.origin: Call | None = None
        self.hedge = self.lost = False
        self.lost_nanousd = 0
        """The operator's costs of attempts that were too late."""
        self.reservation: Reservation | None = None
        self.cost_nanousd = 0
        self.upstream_cost_nanousd: int | None = None
        self.dropped: tuple[str, ...] = ()
        self.address: str | None = None
        self.user_agent: str | None = None
        self.trace: CallTrace | None = None
        self.spans: list[AttemptSpan] = []
        """The attempts of an exported call, those of its forks included."""

    @property
    def outlives_client(self) -> bool:
        """Whether the call is completed for a retry by its Idempotency-Key: a whole response."""
        return self.granted_claim is not None and not self.stream

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
        """Whether the current attempt is read for its usage after the client has left."""
        if self.attempt is None or self.endpoint in _WITHOUT_OUTPUT:
            return False
        drains = self.attempt.deployment.provider.drains
        return self.hides_reasoning if drains is None else drains

    def conclude(self) -> None:
        """
        Drop what refers back to a recorded call.

        Without reference cycles a call is freed at once. Else the garbage collector would find it
        after thousands of others, whose memory is then scattered and not returned.
        """
        self.reservation = None
        error: BaseException | None = self.error
        while error is not None and error.__traceback__ is not None:
            error.__traceback__ = None  # its frames
            error = error.__cause__ or error.__context__

    def note_attempt(
        self,
        deployment: Deployment,
        result: str,
        status: int,
        seconds: float,
        *,
        lost_nanousd: int | None = None,
    ) -> None:
        """
        Add an ended attempt to the chain.

        Args:
            deployment: The deployment that was tried.
            result: See `AttemptRecord`.
            status: The upstream's HTTP status; 0: there was none.
            seconds: How long it took.
            lost_nanousd: What an attempt whose response is not used costs the operator.
        """
        model = "" if self.model is None else self.model.name
        ms = round(seconds * 1000)
        self.chain.append(
            AttemptRecord(deployment.label, model, result, status, ms, self.hedge, lost_nanousd)
        )
        call = self.origin or self
        call.lost_nanousd += lost_nanousd or 0

    def begin_attempt(self, deployment: Deployment, wire: Wire, now: float) -> Attempt:
        """Return a new attempt, which is sent at `now`."""
        call = self.origin or self
        call.attempts += 1
        if call.first_sent_at is None:
            call.first_sent_at = now
        self.attempts = call.attempts
        self.attempt = call.attempt = Attempt(deployment, wire, now)
        return self.attempt

    def fork(self, *, hedge: bool) -> Call:
        """Return a copy for one of several attempts at the same time; see `adopt`."""
        fork = Call(self.request_id, self.endpoint, self.client_wire, self.started_at)
        # Compiled classes cannot be copied by `copy.copy`.
        for name in _FIELDS:
            setattr(fork, name, getattr(self, name))
        fork.origin, fork.hedge, fork.attempt = self, hedge, None
        return fork

    def adopt(self, fork: Call) -> None:
        """Take over the attempt of a fork, if it made one: it is the one that counts."""
        if fork.attempt is None:
            return
        for name in _OF_ATTEMPT:
            setattr(self, name, getattr(fork, name))
