"""
Refuses calls beyond the worker's bounds, before anything else is done for them.

Under overload a worker refuses more calls than it serves, so a refusal must cost little: nothing of
the request is read but its path and the length of its body, and the response is rendered once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.channel import ClientChannel
from gateway.ports import Headers
from gateway.protocols.http.errors.gateway_errors import render
from gateway.telemetry.call_metrics import CallMetrics

_MESSAGES: Final = {
    "in_flight": "Too many open requests. Try again.",
    "loop_lag": "The service is overloaded. Try again.",
}
_ID: Final = b"-request-id-"


class Refused(NamedTuple):
    """A response without its request id."""

    status: int
    headers: Headers
    body: bytes
    """The body; `_ID` stands for the request id, in dialects that show it."""

    async def respond(self, channel: ClientChannel, request_id: str) -> None:
        """Send it to one client."""
        named = request_id.encode()
        body = self.body.replace(_ID, named)
        headers = [
            *self.headers,
            (b"content-length", b"%d" % len(body)),
            (b"request-id", named),
            (b"x-request-id", named),
        ]
        await channel.respond_at_once(self.status, headers, body)


class EarlyRefusal:
    """
    Refuses calls that the worker cannot take.

    Args:
        exceeded: Returns the name of the bound that another call would exceed, if any.
        metrics: Counts the refused calls; they have no line in the log.
    """

    def __init__(self, exceeded: Callable[[], str | None], metrics: CallMetrics) -> None:
        self.exceeded = exceeded
        self._metrics = metrics
        self._refused = {
            (bound, wire): _render(message, wire)
            for bound, message in _MESSAGES.items()
            for wire in Wire
        }

    def of(self, endpoint: Endpoint, bound: str) -> Refused:
        """Count a call that is refused for a bound, and return its response."""
        wire, metrics = endpoint.wire, self._metrics
        refused = self._refused[bound, wire]
        metrics.count_overload(bound)
        metrics.count_call(endpoint.value, wire.value, "failed", refused.status)
        metrics.count_error(endpoint.value, ErrorKind.OVERLOADED.value)
        return refused


def _render(message: str, wire: Wire) -> Refused:
    error = GatewayError(ErrorKind.OVERLOADED, message, retry_after_s=1)
    status, headers, body = render(error, wire, _ID.decode())
    of_one_call = (b"content-length", b"request-id", b"x-request-id")
    return Refused(status, [each for each in headers if each[0] not in of_one_call], body)
