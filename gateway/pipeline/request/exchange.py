"""
One attempt's request and how its response is read: what is sent, and what reshapes the response.

Same wire on both sides: only the model's name changes in the request (and `include_usage` for
OpenAI streams, and the output limit's name where the upstream has another), and the response's
bytes go through untouched, but for the usage event that the client did not ask for. Otherwise both
are translated, and no header of the client's goes along.
"""

from __future__ import annotations

import msgspec

from gateway.core.catalogue import Catalogue
from gateway.core.model import Deployment, Endpoint, Model, Wire
from gateway.core.routing import Candidate
from gateway.pipeline.call import Call
from gateway.pipeline.departure import may_hide_reasoning
from gateway.pipeline.request.inbound_request import InboundRequest, Reshape
from gateway.pipeline.request.offload import LOOP_BYTES, WALKED_BYTES, is_long_walk, offloaded
from gateway.ports import Headers, UpstreamRequest
from gateway.protocols.anthropic_messages.threads import asks_for_thread, thread_refused
from gateway.protocols.http.headers import mapped_betas, translated_headers, upstream_headers
from gateway.protocols.http.request.bounds import RELAYED_BYTES, TRANSLATED_BYTES, check_parts
from gateway.protocols.http.request.priced_features import dropped_fields, permitted_betas
from gateway.protocols.http.request.rewrite import (
    has_foreign_reasoning,
    relay_body,
    strip_all_reasoning,
    strip_foreign_reasoning,
    with_completion_limit,
    without_billing_line,
    without_fields,
)
from gateway.protocols.openai_responses.response import translate_message
from gateway.protocols.openai_responses.stream import responses_over_messages
from gateway.protocols.streams.usage_filter import UsageChunkFilter
from gateway.protocols.translate.capabilities import Capabilities, capabilities
from gateway.protocols.translate.chat_to_messages import request as openai_anthropic_request
from gateway.protocols.translate.chat_to_messages import response as openai_anthropic_response
from gateway.protocols.translate.chat_to_messages.stream import chat_stream
from gateway.protocols.translate.messages_to_chat import request as anthropic_openai_request
from gateway.protocols.translate.messages_to_chat import response as anthropic_openai_response
from gateway.protocols.translate.messages_to_chat.stream import messages_stream
from gateway.protocols.translate.stream import (
    ResponseContext,
    StreamTranslator,
    TranslatedRequest,
    TranslationRoute,
)

_PATHS = {
    Endpoint.EMBEDDINGS: "/embeddings",
    Endpoint.COUNT_TOKENS: "/v1/messages/count_tokens",
}
_WIRE_PATHS = {Wire.OPENAI: "/chat/completions", Wire.ANTHROPIC: "/v1/messages"}


class Exchange(msgspec.Struct):
    """The transformations between one attempt's response and the client."""

    hider: UsageChunkFilter | None = None
    """Same wire: removes the usage event that only we asked for."""
    translator: StreamTranslator | None = None
    """For a stream whose dialect is not the client's."""
    reshape: tuple[Reshape, ...] = ()
    """For a whole response, applied in order."""


Prepared = tuple[UpstreamRequest, Exchange]


class CallContext(msgspec.Struct):
    """What attempts of one call share."""

    call: Call
    front: InboundRequest
    client_headers: Headers
    session_id: str | None
    created: int
    max_attempts: int | None = None
    """None: each candidate once."""
    keep: Reshape | None = None
    """Takes a whole response that is relayed, and returns it."""
    input_estimate: int = 0
    """Tokens, for a stream's first event when the upstream reports them only at its end."""
    without_reasoning: bool = False
    """An upstream refused a reasoning signature: send no old reasoning."""


class RequestBuilder:
    """
    Prepares attempts.

    Args:
        catalogue: What each of its deployments can do is worked out once, here.

    Raises:
        ValueError: A deployment overrides a capability that does not exist.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue  # kept, so that the ids below stay those of its deployments
        self._caps = {
            (id(deployment), wire): capabilities_of(deployment, wire)
            for model in catalogue.models
            for deployment in model.deployments
            for wire in deployment.wires
        }

    async def prepared(self, given: CallContext, candidate: Candidate) -> Prepared:
        """Return `prepare`, without holding the loop for long."""
        if _is_long(given, candidate):
            return await offloaded(self.prepare, given, candidate)
        return self.prepare(given, candidate)

    def prepare(self, given: CallContext, candidate: Candidate) -> Prepared:
        """
        Return the request for one candidate, and the exchange that reads its response.

        They are apart so that the request, which may be megabytes, is gone while a response runs.

        Raises:
            GatewayError: BAD_REQUEST or UNSUPPORTED: the request cannot be put to this deployment.
        """
        caps = self._caps[id(candidate.deployment), candidate.wire]
        asked = given.front.fields.asks_reasoning
        given.call.hides_reasoning = may_hide_reasoning(candidate, caps, asked)
        if candidate.wire is given.front.wire:
            return _relayed(given, candidate, caps)
        return _translated(given, candidate, caps)


def _is_long(given: CallContext, candidate: Candidate) -> bool:
    """Return whether the request is so large that it is prepared away from the loop."""
    front = given.front
    if candidate.wire is not front.wire or front.original:
        return is_long_walk(front.body)
    if len(front.body) <= WALKED_BYTES:
        return False
    strips = given.without_reasoning or candidate.deployment.provider.strip_billing_line
    if strips or has_foreign_reasoning(front.body):
        return is_long_walk(front.body)
    return len(front.body) > LOOP_BYTES


def _relayed(given: CallContext, candidate: Candidate, caps: Capabilities) -> Prepared:
    call, front = given.call, given.front
    assert call.model is not None
    provider = candidate.deployment.provider
    unpriced = dropped_fields(front.fields.priced, provider.allow_features)
    call.dropped = (*front.dropped, *unpriced)
    if front.is_facade:
        body = front.chat_body(caps, candidate.deployment.upstream_model)
        if unpriced:
            body = without_fields(body, unpriced)
        request = _request(given, candidate, body, _own_headers(given, candidate))
        return request, Exchange(
            translator=front.stream_translator() if call.stream else None,
            reshape=front.reshape(call.model, caps),
        )
    body, hide = _relayed_body(given, candidate, caps)
    if unpriced:
        body = without_fields(body, unpriced)
    headers = upstream_headers(candidate.wire, given.client_headers, candidate.route.headers)
    if candidate.wire is Wire.ANTHROPIC:
        headers, betas = permitted_betas(headers, _allowed(given, candidate), provider.betas)
        call.dropped += betas
    if provider.betas:
        headers = mapped_betas(headers, provider.betas)
    return _request(given, candidate, body, headers), Exchange(
        hider=UsageChunkFilter() if hide else None,
        reshape=(given.keep,) if given.keep is not None else (),
    )


def _allowed(given: CallContext, candidate: Candidate) -> frozenset[str]:
    """Return the features the provider allows, and the long context where it has a price."""
    model, allowed = given.call.model, candidate.deployment.provider.allow_features
    if model is not None and model.prices.long_context is not None:
        return allowed | {"long_context"}
    return allowed


def _relayed_body(
    given: CallContext, candidate: Candidate, caps: Capabilities
) -> tuple[bytes, bool]:
    """Return the client's body with what must change in it, and whether usage is to be hidden."""
    front, provider = given.front, candidate.deployment.provider
    threads = provider.dialect.startswith("anthropic")
    if candidate.wire is Wire.ANTHROPIC and not threads and asks_for_thread(front.body):
        raise thread_refused()
    ask_usage = candidate.wire is Wire.OPENAI and given.call.stream and provider.inject_usage
    body, hide = relay_body(
        front.body, front.fields, candidate.deployment.upstream_model, ask_usage=ask_usage
    )
    if candidate.wire is Wire.ANTHROPIC:
        body = (
            strip_all_reasoning(body) if given.without_reasoning else strip_foreign_reasoning(body)
        )
        if provider.strip_billing_line:
            body = without_billing_line(body)
    elif caps.max_tokens_param == "max_completion_tokens":
        body = with_completion_limit(body, front.fields)
    if provider.drop_fields:
        body = without_fields(body, provider.drop_fields)
    return body, hide


def _own_headers(given: CallContext, candidate: Candidate) -> tuple[tuple[bytes, bytes], ...]:
    return translated_headers(candidate.wire, candidate.route.headers, stream=given.call.stream)


def _translated(given: CallContext, candidate: Candidate, caps: Capabilities) -> Prepared:
    call, front = given.call, given.front
    assert call.model is not None
    route = TranslationRoute(candidate.deployment.upstream_model, caps, call.model.max_output)
    made = _translate(given, route)
    call.dropped = (*front.dropped, *made.dropped)
    context = msgspec.structs.replace(
        made.context,
        created=given.created,
        input_estimate=given.input_estimate,
    )
    request = _request(given, candidate, made.body, _own_headers(given, candidate))
    return request, Exchange(
        translator=_translator(front, context, caps) if call.stream else None,
        reshape=_reshape(front, call.model, context, caps),
    )


def _reshape(
    front: InboundRequest, model: Model, context: ResponseContext, caps: Capabilities
) -> tuple[Reshape, ...]:
    if front.wire is Wire.ANTHROPIC:
        return (lambda body: anthropic_openai_response.translate_response(body, context, caps),)
    responses = front.responses
    if responses is not None:
        return (lambda body: translate_message(body, responses, context),)
    return (
        lambda body: openai_anthropic_response.translate_response(body, context),
        *front.reshape(model, caps),
    )


def _translator(
    front: InboundRequest, context: ResponseContext, caps: Capabilities
) -> StreamTranslator:
    if front.wire is Wire.ANTHROPIC:
        return messages_stream(context, caps)
    if front.responses is not None:
        return responses_over_messages(front.responses, context.tool_names)
    return chat_stream(context)


def _translate(given: CallContext, route: TranslationRoute) -> TranslatedRequest:
    front = given.front
    if TRANSLATED_BYTES < len(front.body) <= RELAYED_BYTES and not front.is_facade:
        check_parts(front.body, front.bounds)
    if given.front.wire is Wire.ANTHROPIC:
        return anthropic_openai_request.translate_request(given.front.body, route, given.session_id)
    return openai_anthropic_request.translate_request(
        given.front.body, route, carry_reasoning=not given.without_reasoning
    )


def capabilities_of(deployment: Deployment, wire: Wire) -> Capabilities:
    """Return what a deployment can do on one wire, its overrides applied."""
    dialect = deployment.provider.dialect
    if wire is Wire.ANTHROPIC and not dialect.startswith("anthropic"):
        dialect = "anthropic-legacy"
    if wire is Wire.OPENAI and dialect.startswith("anthropic"):
        dialect = "generic"
    return capabilities(dialect, {**deployment.provider.caps, **deployment.caps})


def _request(
    given: CallContext,
    candidate: Candidate,
    body: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
) -> UpstreamRequest:
    clocks, route = candidate.deployment.provider.clocks, candidate.route
    path = _PATHS.get(given.call.endpoint) or _WIRE_PATHS[candidate.wire]
    return UpstreamRequest(
        origin=route.origin,
        method="POST",
        path=route.base_path + path,
        headers=headers,
        body=body,
        clocks=clocks,
        head_timeout_s=clocks.first_content_s if given.call.stream else clocks.first_byte_s,
    )
