"""
Builds one attempt's request, and the transformations of its response.

With the same wire on both sides, only the model's name changes in the request (and `include_usage`
for OpenAI streams, and the output limit's name if the upstream's differs). The response's bytes are
unchanged, except that a usage event that the client did not request is removed. Otherwise both are
translated, and none of the client's headers are sent.
"""

from __future__ import annotations

import msgspec

from gateway.core.catalogue import Catalogue
from gateway.core.model import Deployment, Endpoint, Model, Wire
from gateway.core.routing.plan import Candidate
from gateway.pipeline.call import Call
from gateway.pipeline.departure import may_hide_reasoning
from gateway.pipeline.offload import LOOP_BYTES, WALKED_BYTES, is_long_walk, offloaded
from gateway.pipeline.request.context import UNCHANGED, CallContext, Prepared, ResponseTransforms
from gateway.pipeline.request.heads import RequestHead, RequestHeads
from gateway.pipeline.request.inbound_request import InboundRequest, Reshape
from gateway.ports import UpstreamRequest
from gateway.protocols.anthropic_messages.threads import asks_for_thread, thread_refused
from gateway.protocols.codec.usage_bound import UsageBound, usage_bound
from gateway.protocols.http.request.bounds import RELAYED_BYTES, TRANSLATED_BYTES, check_parts
from gateway.protocols.http.request.priced_features import dropped_fields
from gateway.protocols.http.request.reasoning import (
    has_foreign_reasoning,
    strip_all_reasoning,
    strip_foreign_reasoning,
)
from gateway.protocols.http.request.rewrite import (
    relay_body,
    with_completion_limit,
    without_billing_line,
    without_fields,
)
from gateway.protocols.http.request.system_reminders import (
    has_system_messages,
    with_system_reminders,
)
from gateway.protocols.openai_responses.response import translate_message
from gateway.protocols.openai_responses.stream import responses_over_messages
from gateway.protocols.streams.relayed import RelayedStream, Unchanged
from gateway.protocols.streams.transform import StreamTransform
from gateway.protocols.translate.capabilities import Capabilities, capabilities
from gateway.protocols.translate.chat_dialect.history import has_calls
from gateway.protocols.translate.chat_dialect.relayed import adapt_chat
from gateway.protocols.translate.chat_to_messages import request as chat_to_messages_request
from gateway.protocols.translate.chat_to_messages import response as chat_to_messages_response
from gateway.protocols.translate.chat_to_messages.stream import chat_stream
from gateway.protocols.translate.messages_to_chat import request as messages_to_chat_request
from gateway.protocols.translate.messages_to_chat import response as messages_to_chat_response
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


class RequestBuilder:
    """
    Builds the requests of attempts.

    Args:
        catalogue: The capabilities of its deployments are determined once, here.

    Raises:
        ValueError: A deployment overrides a capability that does not exist.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue  # kept alive, so that the ids below remain its deployments'
        self._heads = RequestHeads()
        self._caps = {
            (id(deployment), wire): capabilities_of(deployment, wire)
            for model in catalogue.models
            for deployment in model.deployments
            for wire in deployment.wires
        }

    def limit_fields(self) -> dict[str, str]:
        """Return each deployment's field for the output limit on the OpenAI wire."""
        return {
            deployment.label: self._caps[id(deployment), Wire.OPENAI].max_tokens_param
            for model in self._catalogue.models
            for deployment in model.deployments
            if Wire.OPENAI in deployment.wires
        }

    async def prepared(self, context: CallContext, candidate: Candidate) -> Prepared:
        """Return the result of `prepare`, without blocking the event loop for long."""
        caps = self._caps[id(candidate.deployment), candidate.wire]
        if _is_long(context, candidate, caps):
            return await offloaded(self.prepare, context, candidate)
        return self.prepare(context, candidate)

    def prepare(self, context: CallContext, candidate: Candidate) -> Prepared:
        """
        Return the request for one candidate, and the transforms of its response.

        They are separate so that the request, possibly megabytes, is freed while a response runs.

        Raises:
            GatewayError: BAD_REQUEST or UNSUPPORTED: this deployment cannot serve the request.
        """
        caps = self._caps[id(candidate.deployment), candidate.wire]
        asked = context.request.fields.asks_reasoning
        context.call.hides_reasoning = may_hide_reasoning(candidate, caps, asked)
        prepare = _relayed if candidate.wire is context.request.wire else _translated
        sent, transforms = prepare(context, candidate, caps, self._heads)
        transforms.bound = _usage_bound(context, candidate)
        if isinstance(transforms.transform, StreamTranslator):
            transforms.transform.bound_usage(transforms.bound)
        return sent, transforms


def _usage_bound(context: CallContext, candidate: Candidate) -> UsageBound:
    call, fields = context.call, context.request.fields
    assert call.model is not None
    return usage_bound(
        call.model,
        call.input_estimate,
        fields.output_limit,
        fields.choices,
        runs_tools=bool(candidate.deployment.provider.allow_features),
    )


def _is_long(context: CallContext, candidate: Candidate, caps: Capabilities) -> bool:
    """Return whether the request is so large that it is prepared off the event loop."""
    request = context.request
    if candidate.wire is not request.wire or request.original:
        return is_long_walk(request.body)
    if len(request.body) <= WALKED_BYTES:
        return False
    strips = context.without_reasoning or candidate.deployment.provider.strip_billing_line
    if candidate.wire is Wire.OPENAI:
        strips = strips or has_calls(request.body)
    else:
        strips = strips or has_foreign_reasoning(request.body)
        if caps.midconv_system == "user":
            strips = strips or has_system_messages(request.body)
    if strips:
        return is_long_walk(request.body)
    return len(request.body) > LOOP_BYTES


def _relayed(
    context: CallContext, candidate: Candidate, caps: Capabilities, heads: RequestHeads
) -> Prepared:
    call, request = context.call, context.request
    assert call.model is not None
    provider = candidate.deployment.provider
    unpriced = dropped_fields(request.fields.priced, provider.allow_features)
    call.dropped = (*request.dropped, *unpriced)
    if request.is_facade:
        route = TranslationRoute(candidate.deployment.upstream_model, caps, call.model.max_output)
        body, left_out = request.chat_body(route)
        call.dropped += left_out
        if unpriced:
            body = without_fields(body, unpriced)
        head = heads.translated(candidate, _path(context, candidate), stream=call.stream)
        sent = _request(context, candidate, body, head)
        translator = request.stream_translator(caps) if call.stream else None
        return sent, ResponseTransforms(
            transform=translator or _relayed_stream(call, hides_usage=False),
            reshape=request.reshape(call.model, caps),
            translated=True,
            reasoning_apart=caps.reasoning_apart,
        )
    body, hide, adapted = _relayed_body(context, candidate, caps)
    call.dropped += adapted
    if unpriced:
        body = without_fields(body, unpriced)
    path = _path(context, candidate)
    head = heads.relayed(candidate, call.model, path, context.channel.headers)
    call.dropped += head.dropped
    return _request(context, candidate, body, head), ResponseTransforms(
        transform=_relayed_stream(call, hides_usage=hide),
        reasoning_apart=caps.reasoning_apart,
    )


def _relayed_stream(call: Call, *, hides_usage: bool) -> StreamTransform:
    if not call.stream:
        return UNCHANGED
    return RelayedStream(call.client_wire, call.model_asked, hides_usage=hides_usage)


def _relayed_body(
    context: CallContext, candidate: Candidate, caps: Capabilities
) -> tuple[bytes, bool, tuple[str, ...]]:
    """
    Return the client's body with the necessary changes.

    Also returns whether usage must be hidden from the client, and the dropped fields.
    """
    request, provider = context.request, candidate.deployment.provider
    has_threads = candidate.wire is Wire.OPENAI or provider.dialect.startswith("anthropic")
    if not has_threads and asks_for_thread(request.body, request.fields.member_spans):
        raise thread_refused()
    asks = provider.inject_usage and caps.stream_options
    ask_usage = candidate.wire is Wire.OPENAI and context.call.stream and asks
    body, hide = relay_body(
        request.body, request.fields, candidate.deployment.upstream_model, ask_usage=ask_usage
    )
    dropped: tuple[str, ...] = ()
    if candidate.wire is Wire.ANTHROPIC:
        if context.without_reasoning:
            body = strip_all_reasoning(body)
        elif caps.signed_reasoning:
            body = strip_foreign_reasoning(body)
        if caps.midconv_system == "user":
            body = with_system_reminders(body)
        if provider.strip_billing_line:
            body = without_billing_line(body)
    elif context.call.endpoint is not Endpoint.EMBEDDINGS:
        if caps.max_tokens_param == "max_completion_tokens":
            body = with_completion_limit(body, request.fields)
        body, dropped = adapt_chat(body, request.fields, caps)
    if provider.drop_fields:
        body = without_fields(body, provider.drop_fields)
    return body, hide, dropped


def _translated(
    context: CallContext, candidate: Candidate, caps: Capabilities, heads: RequestHeads
) -> Prepared:
    call, request = context.call, context.request
    assert call.model is not None
    route = TranslationRoute(candidate.deployment.upstream_model, caps, call.model.max_output)
    made = _translate(context, route)
    call.dropped = (*request.dropped, *made.dropped)
    response_context = msgspec.structs.replace(
        made.context,
        created=context.created,
        input_estimate=context.input_estimate,
    )
    head = heads.translated(candidate, _path(context, candidate), stream=call.stream)
    sent = _request(context, candidate, made.body, head)
    return sent, ResponseTransforms(
        transform=_translator(request, response_context, caps) if call.stream else Unchanged(),
        reshape=_reshape(request, call.model, response_context, caps),
        translated=True,
        reasoning_apart=caps.reasoning_apart,
    )


def _reshape(
    request: InboundRequest, model: Model, context: ResponseContext, caps: Capabilities
) -> tuple[Reshape, ...]:
    if request.wire is Wire.ANTHROPIC:
        return (lambda body: messages_to_chat_response.translate_response(body, context, caps),)
    responses = request.responses
    if responses is not None:
        return (lambda body: translate_message(body, responses, context),)
    return (
        lambda body: chat_to_messages_response.translate_response(body, context),
        *request.reshape(model, caps),
    )


def _translator(
    request: InboundRequest, context: ResponseContext, caps: Capabilities
) -> StreamTranslator:
    if request.wire is Wire.ANTHROPIC:
        return messages_stream(context, caps)
    if request.responses is not None:
        return responses_over_messages(request.responses, context.tool_names)
    return chat_stream(context)


def _translate(context: CallContext, route: TranslationRoute) -> TranslatedRequest:
    request = context.request
    if TRANSLATED_BYTES < len(request.body) <= RELAYED_BYTES and not request.is_facade:
        check_parts(request.body, request.bounds)
    if request.wire is Wire.ANTHROPIC:
        return messages_to_chat_request.translate_request(request.body, route, context.session_id)
    return chat_to_messages_request.translate_request(
        request.body, route, carry_reasoning=not context.without_reasoning
    )


def capabilities_of(deployment: Deployment, wire: Wire) -> Capabilities:
    """Return a deployment's capabilities on one wire, with its overrides."""
    dialect = deployment.provider.dialect
    if wire is Wire.ANTHROPIC and not dialect.startswith("anthropic"):
        dialect = "anthropic-legacy"
    if wire is Wire.OPENAI and dialect.startswith("anthropic"):
        dialect = "generic"
    overrides = {**deployment.provider.caps, **deployment.caps}
    if wire is Wire.ANTHROPIC and dialect != deployment.provider.dialect:
        # Only Anthropic verifies signatures; others expect reasoning back as they sent it.
        overrides = {"signed_reasoning": False, **overrides}
    return capabilities(dialect, overrides)


def _path(context: CallContext, candidate: Candidate) -> str:
    path = _PATHS.get(context.call.endpoint) or _WIRE_PATHS[candidate.wire]
    return candidate.route.base_path + path


def _request(
    context: CallContext, candidate: Candidate, body: bytes, head: RequestHead
) -> UpstreamRequest:
    call = context.call
    clocks = candidate.deployment.clocks_for(candidate.wire, hides_reasoning=call.hides_reasoning)
    return UpstreamRequest(
        origin=candidate.route.origin,
        method="POST",
        path=_path(context, candidate),
        headers=head.headers,
        head=head.rendered,
        body=body,
        clocks=clocks,
        head_timeout_s=clocks.first_content_s if call.stream else clocks.first_byte_s,
    )
