"""
One call and all that is known of it, from its head to its record.

Mutable on purpose, and the only such bag: phases fill it in, `finish` reads it. It never holds a
raw key, and of the bodies only what a retry needs, until the answer is committed.
"""

from __future__ import annotations

from gateway.core.model import Deployment, Endpoint, Model, Principal, Usage, Wire
from gateway.errors import GatewayError


class Call:
    """
    The state of one call.

    Times are seconds of the loop's clock; `outcome` is completed, cancelled or failed.
    """

    __slots__ = (
        "address",
        "attempts",
        "body_bytes",
        "client_wire",
        "content_count",
        "deployment",
        "dropped",
        "ended_at",
        "endpoint",
        "error",
        "estimated",
        "finish_reason",
        "first_content_at",
        "first_sent_at",
        "last_content_at",
        "model",
        "model_asked",
        "outcome",
        "principal",
        "request_id",
        "sent_at",
        "started_at",
        "status",
        "stream",
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
        """When the attempt that answered was sent; `first_sent_at` is the first attempt's time."""
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
        self.body_bytes = 0
        self.status = 0
        self.outcome = "failed"
        self.error: GatewayError | None = None
        self.usage = Usage()
        self.estimated = False
        self.finish_reason: str | None = None
        self.dropped: tuple[str, ...] = ()
        self.address: str | None = None
        self.user_agent: str | None = None
