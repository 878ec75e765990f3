"""
The client's request in one of the two dialects that upstreams speak.

Chat and Messages bodies are unchanged. The Responses API and the native endpoint are façades over
chat completions: their request is translated to a chat request, and the chat response back.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.core.model import Endpoint, Model, Wire
from gateway.pipeline.offload import LOOP_BYTES, is_long_walk, offloaded
from gateway.protocols.codec.json_decode import BOM
from gateway.protocols.http.request.bounds import (
    DEFAULT_BOUNDS,
    RELAYED_BYTES,
    TRANSLATED_BYTES,
    RequestBounds,
    check_parts,
)
from gateway.protocols.http.request.fields import CallFields, check_request, decode_call
from gateway.protocols.http.request.model_fallbacks import Fallback, names_fallbacks, take_fallbacks
from gateway.protocols.native_chat import (
    NativeLimits,
    NativeRequest,
    chat_request,
    native_response,
    read_native_request,
    require_web_search,
)
from gateway.protocols.openai_responses.context import ResponsesContext
from gateway.protocols.openai_responses.request import translate_responses_request
from gateway.protocols.openai_responses.response import translate_responses_response
from gateway.protocols.openai_responses.stream import responses_stream
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.chat_dialect.request import fit_chat
from gateway.protocols.translate.stream import StreamTranslator, TranslationRoute
from gateway.tokens.input_bound import input_token_bound, may_cache_for_an_hour

MOST_DROPPED = 32
MOST_DROPPED_LENGTH = 64
"""Bounds of the reported names: clients can invent field names and types."""

_PARSED = frozenset({Endpoint.RESPONSES, Endpoint.COUNT_TOKENS})
_INVISIBLE = re.compile(r"[^!-~]")

Reshape = Callable[[bytes], bytes]

_MEMBERS = msgspec.json.Decoder(dict[str, Any])


class InboundRequest(msgspec.Struct, kw_only=True):
    """One request, ready for any deployment."""

    wire: Wire
    """The dialect of `body`."""
    body: bytes
    fields: CallFields
    dropped: tuple[str, ...] = ()
    original: bytes = b""
    """The Responses request that `body` was translated from."""
    responses: ResponsesContext | None = None
    native: NativeRequest | None = None
    bounds: RequestBounds = DEFAULT_BOUNDS
    fallbacks: tuple[Fallback, ...] = ()
    """Models that the client names as fallbacks."""

    def release_body(self) -> None:
        """Free the bodies, which may be megabytes; there is no retry after the response head."""
        self.body = self.original = b""

    def keep_as(self, token: str, previous_response_id: str | None, *, store: bool) -> None:
        """Derive the ids of the response and its items from `token`; `store` it or not."""
        if self.responses is not None:
            self.responses = msgspec.structs.replace(
                self.responses, token=token, previous_response_id=previous_response_id, store=store
            )

    def input_bound(self) -> int | None:
        """Return an upper bound of the input's tokens; None: only the model's context bounds it."""
        return input_token_bound(self.body)

    def hour_cache(self) -> bool:
        """Return whether the input may be written to a one-hour cache."""
        return may_cache_for_an_hour(self.body)

    @property
    def is_facade(self) -> bool:
        """Whether `body` is a translation, since the client's API is neither dialect."""
        return self.responses is not None or self.native is not None

    def chat_body(self, route: TranslationRoute) -> tuple[bytes, tuple[str, ...]]:
        """Return a façade's chat request for an upstream, and its dropped fields."""
        if self.native is not None:
            body = chat_request(
                self.native,
                model=route.upstream_model,
                limit_field=route.caps.max_tokens_param,
                min_output_tokens=route.caps.min_output_tokens,
            )
            return body, ()
        members = _MEMBERS.decode(self.body)
        dropped = fit_chat(members, route)
        return msgspec.json.encode(members), dropped

    def stream_translator(self, caps: Capabilities) -> StreamTranslator | None:
        """Return a new translator from the chat stream to the client's; None if not needed."""
        return responses_stream(self.responses, caps) if self.responses is not None else None

    def reshape(self, model: Model, caps: Capabilities) -> tuple[Reshape, ...]:
        """Return the steps from a whole chat response to the client's; empty if not needed."""
        if self.responses is not None:
            context = self.responses
            return (lambda body: translate_responses_response(body, context, caps),)
        if self.native is not None:
            asked = self.native.model
            return (
                lambda body: native_response(
                    body,
                    response_id=str(uuid.uuid4()),
                    model=asked,
                    prices=model.prices,
                    caps=caps,
                ),
            )
        return ()


async def read_request(
    endpoint: Endpoint,
    body: bytes,
    *,
    created: int,
    limits: NativeLimits,
    bounds: RequestBounds = DEFAULT_BOUNDS,
) -> InboundRequest:
    """Return the result of `parse_request`, run off the event loop if the body is large."""
    is_long = is_long_walk(body) if endpoint is Endpoint.RESPONSES else len(body) > LOOP_BYTES
    if is_long:
        return await offloaded(
            parse_request, endpoint, body, created=created, limits=limits, bounds=bounds
        )
    return parse_request(endpoint, body, created=created, limits=limits, bounds=bounds)


def parse_request(
    endpoint: Endpoint,
    body: bytes,
    *,
    created: int,
    limits: NativeLimits,
    bounds: RequestBounds = DEFAULT_BOUNDS,
) -> InboundRequest:
    """
    Return the request in a dialect that upstreams speak.

    Args:
        endpoint: The requested endpoint.
        body: The client's request body.
        created: Unix seconds.
        limits: Bounds of native requests.
        bounds: Bounds of the request's parts.

    Raises:
        GatewayError: BAD_REQUEST or UNSUPPORTED, naming the field.
    """
    if body.startswith(BOM):
        body = body.removeprefix(BOM)
    counted = TRANSLATED_BYTES if endpoint in _PARSED else RELAYED_BYTES
    if len(body) > counted:
        check_parts(body, bounds)
    if endpoint is Endpoint.RESPONSES:
        check_request(body, Wire.OPENAI, bounds)
        chat = translate_responses_request(body)
        return InboundRequest(
            wire=Wire.OPENAI,
            body=chat.body,
            fields=decode_call(chat.body, Wire.OPENAI, None),
            dropped=_header_names(chat.dropped),
            original=body,
            responses=msgspec.structs.replace(chat.context, created=created),
        )
    if endpoint is Endpoint.NATIVE_CHAT:
        check_request(body, Wire.OPENAI, bounds)
        native = read_native_request(body, limits)
        require_web_search(native, model_searches=False)
        written = chat_request(native, model=native.model)
        fields = decode_call(written, Wire.OPENAI, None)
        return InboundRequest(wire=Wire.OPENAI, body=written, fields=fields, native=native)
    fields = decode_call(body, endpoint.wire, bounds)
    fallbacks: tuple[Fallback, ...] = ()
    if names_fallbacks(fields):
        body, fields, fallbacks = take_fallbacks(body, endpoint.wire)
    return InboundRequest(
        wire=endpoint.wire, body=body, fields=fields, bounds=bounds, fallbacks=fallbacks
    )


def _header_names(dropped: tuple[str, ...]) -> tuple[str, ...]:
    """Return client-supplied names in a form that is safe in headers and logs."""
    names = (_INVISIBLE.sub("?", name[:MOST_DROPPED_LENGTH]) for name in dropped)
    return tuple(dict.fromkeys(names))[:MOST_DROPPED]
