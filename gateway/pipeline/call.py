"""
The state of one call, from its request head to its record.

Mutable: the phases fill it in, `record` reads it. It never holds a raw key or a body.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.idempotency import Hold
from gateway.core.model import Deployment, Endpoint, Model, Principal, Usage, Wire
from gateway.errors import GatewayError
from gateway.ports import Reservation

_WITHOUT_OUTPUT = (Endpoint.COUNT_TOKENS, Endpoint.EMBEDDINGS)


class Call:
    """
    The state of one call.

    Times are monotonic seconds; `outcome` is decided at the end, see `pipeline.settlement`.
    """

    __slots__ = (
        "address",
        "attempts",
        "client_wire",
        "content_count",
        "cost_nanousd",
        "delivered",
        "deployment",
        "drained",
        "dropped",
        "ended_at",
        "endpoint",
        "error",
        "estimated",
        "finish_reason",
        "first_content_at",
        "first_sent_at",
        "hides_reasoning",
        "hold",
        "input_estimate",
        "last_content_at",
        "live_usage",
        "model",
        "model_asked",
        "outcome",
        "principal",
        "request_id",
        "reservation",
        "sent_at",
        "started_at",
        "status",
        "stream",
        "unreadable_usage",
        "upstream_cost_nanousd",
        "upstream_request_id",
        "upstream_wire",
        "usage",
        "user_agent",
    )

    def __init__(self, request_id: str, endpoint: Endpoint, client_wire: Wire, now: float) -> None:
        self.request_id = request_id
        self.endpoint = endpoint
        self.client_wire = client_wire
        self.started_at = now
        self.sent_at: float | None = None
        """When the current attempt was sent; None while no upstream works on the call."""
        self.first_sent_at: float | None = None
        self.first_content_at: float | None = None
        self.last_content_at: float | None = None
        self.content_count = 0
        self.ended_at: float | None = None
        self.principal: Principal | None = None
        self.model: Model | None = None
        self.model_asked = ""
        self.deployment: Deployment | None = None
        self.upstream_wire: Wire | None = None
        self.upstream_request_id: str | None = None
        self.stream = False
        self.attempts = 0
        self.status = 0
        self.outcome = "failed"
        self.error: GatewayError | None = None
        self.hold: Hold | None = None
        """The claim on the call's Idempotency-Key."""
        self.input_estimate = 0
        self.delivered = False
        """Some of the response's content was sent to the client."""
        # Drained: the client left and the response was read on for its usage. Hides reasoning: the
        # current attempt's model may bill reasoning that it does not send.
        self.drained = self.hides_reasoning = False
        self.reservation: Reservation | None = None
        self.live_usage: Callable[[], Usage] | None = None
        """The usage so far, while a response is being relayed."""
        self.cost_nanousd = 0
        self.upstream_cost_nanousd: int | None = None
        self.usage = Usage()
        self.estimated = self.unreadable_usage = False  # the latter: reported, but implausible
        self.finish_reason: str | None = None
        self.dropped: tuple[str, ...] = ()
        self.address: str | None = None
        self.user_agent: str | None = None

    @property
    def outlives_client(self) -> bool:
        """A whole response under an Idempotency-Key is completed for the client's retry."""
        return self.hold is not None and not self.stream

    @property
    def reads_on(self) -> bool:
        """The current attempt is read on for its usage when the client leaves."""
        if self.deployment is None or self.endpoint in _WITHOUT_OUTPUT:
            return False
        drains = self.deployment.provider.drains
        return self.hides_reasoning if drains is None else drains

    def begin_attempt(self, deployment: Deployment, wire: Wire, now: float) -> None:
        """Start an attempt at `deployment` and clear what an earlier one left."""
        self.attempts += 1
        self.deployment = deployment
        self.upstream_wire = wire
        self.sent_at = now
        if self.first_sent_at is None:
            self.first_sent_at = now
        self.upstream_request_id = None
        self.first_content_at = self.last_content_at = None
        self.content_count = 0
        self.usage = Usage()
        self.estimated = self.delivered = self.unreadable_usage = False
        self.finish_reason = None
        self.live_usage = None
