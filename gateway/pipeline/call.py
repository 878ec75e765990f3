"""
One call and all that is known of it, from its head to its record.

Mutable on purpose, and the only such bag: phases fill it in, `finish` reads it. It never holds a
raw key, nor any body.
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
        """
        When the attempt was sent that runs or answered; None while nobody works for the call.

        `first_sent_at` is the first attempt's time.
        """
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
        """The right to run a call that carries an Idempotency-Key."""
        self.input_estimate = 0
        self.delivered = False
        """Some of an answer's content went to the caller."""
        self.drained = self.hides_reasoning = False
        """
        The caller left and the stream was read on for its usage.

        `hides_reasoning`: the running attempt's model may reason unseen, so that only its report
        tells how much.
        """
        self.reservation: Reservation | None = None
        self.live_usage: Callable[[], Usage] | None = None
        """While an answer is on its way: what it has used so far."""
        self.cost_nanousd = 0
        self.upstream_cost_nanousd: int | None = None
        self.usage = Usage()
        self.estimated = self.unreadable_usage = False  # the latter: it cannot be true
        self.finish_reason: str | None = None
        self.dropped: tuple[str, ...] = ()
        self.address: str | None = None
        self.user_agent: str | None = None

    @property
    def outlives_client(self) -> bool:
        """A whole answer under an Idempotency-Key is finished for whoever asks again."""
        return self.hold is not None and not self.stream

    @property
    def reads_on(self) -> bool:
        """The running attempt is read on for its usage when the client leaves."""
        if self.deployment is None or self.endpoint in _WITHOUT_OUTPUT:
            return False
        drains = self.deployment.provider.drains
        return self.hides_reasoning if drains is None else drains

    def begin_attempt(self, deployment: Deployment, wire: Wire, now: float) -> None:
        """Note that the request is sent to `deployment`, and forget what an earlier one left."""
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
