"""
One attempt's request and how its answer is read: what is sent, metered, reshaped.

Same wire on both sides: only the model's name changes in the request (and `include_usage` for
OpenAI streams), and the answer's bytes go through untouched, but for the usage event that the
caller did not ask for.
"""

from __future__ import annotations

from gateway.core.model import Endpoint, Wire
from gateway.core.routing import Candidate
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.relay import Shaper
from gateway.ports import Headers, UpstreamRequest
from gateway.protocols.call_fields import CallFields
from gateway.protocols.headers import upstream_headers
from gateway.protocols.rewrite import inject_usage, rewrite_model, strip_foreign_thoughts
from gateway.protocols.usage_hider import UsageHider

_PATHS = {
    Endpoint.CHAT_COMPLETIONS: "/chat/completions",
    Endpoint.EMBEDDINGS: "/embeddings",
    Endpoint.MESSAGES: "/v1/messages",
    Endpoint.COUNT_TOKENS: "/v1/messages/count_tokens",
}


class Exchange:
    """What one attempt sends, and what stands between its answer and the caller."""

    __slots__ = ("request", "shaper")

    def __init__(self, request: UpstreamRequest, shaper: Shaper | None) -> None:
        self.request = request
        self.shaper = shaper


def relay_exchange(
    call: Call, fields: CallFields, body: bytes, client_headers: Headers, candidate: Candidate
) -> Exchange:
    """
    Return the exchange for a deployment that speaks the caller's wire.

    Raises:
        GatewayError: BAD_REQUEST, the body names its model twice.
    """
    wire, deployment = candidate.wire, candidate.deployment
    body = rewrite_model(body, deployment.upstream_model)
    shaper: Shaper | None = None
    if wire is Wire.ANTHROPIC:
        body = strip_foreign_thoughts(body)
    elif call.stream and deployment.provider.inject_usage:
        body, hide = inject_usage(body)
        shaper = UsageHider() if hide else None
    return Exchange(_request(call, fields, body, client_headers, candidate), shaper)


def _request(
    call: Call,
    fields: CallFields,
    body: bytes,
    client_headers: Headers,
    candidate: Candidate,
) -> UpstreamRequest:
    clocks, route = candidate.deployment.provider.clocks, candidate.route
    path = _PATHS.get(call.endpoint)
    if path is None:
        raise GatewayError(ErrorKind.UNKNOWN_PATH, "This path is not served.")
    return UpstreamRequest(
        origin=route.origin,
        method="POST",
        path=route.base_path + path,
        headers=upstream_headers(candidate.wire, client_headers, route.headers),
        body=body,
        clocks=clocks,
        head_timeout_s=clocks.first_content_s if fields.stream else clocks.first_byte_s,
    )
