"""
What a caller asked for, brought to one of the two dialects that upstreams speak.

Chat and Messages bodies stay as they came. The Responses API and the native endpoint are façades
over chat completions: their request becomes a chat request here, and the chat answer is reshaped on
its way back.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

import msgspec
from msgspec import Raw

from gateway.core.model import Endpoint, Model, Wire
from gateway.pipeline.offload import LOOP_BYTES, is_long_walk, offloaded
from gateway.protocols.http.request_bounds import (
    DEFAULT_BOUNDS,
    RELAYED_BYTES,
    TRANSLATED_BYTES,
    RequestBounds,
    check_parts,
)
from gateway.protocols.http.request_fields import CallFields, check_request, decode_call
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
from gateway.protocols.translate.stream import StreamTranslator
from gateway.tokens.input_bound import input_token_bound

MOST_DROPPED = 32
MOST_DROPPED_LENGTH = 64
"""Names that are told, and the length of each: some hold types that the caller made up."""

_TAKEN_APART = frozenset({Endpoint.RESPONSES, Endpoint.COUNT_TOKENS})
_INVISIBLE = re.compile(r"[^!-~]")

Reshape = Callable[[bytes], bytes]

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])


class InboundRequest(msgspec.Struct, kw_only=True):
    """One request, ready for any deployment."""

    wire: Wire
    """The dialect of `body`."""
    body: bytes
    fields: CallFields
    dropped: tuple[str, ...] = ()
    original: bytes = b""
    """The Responses request that `body` was made of."""
    responses: ResponsesContext | None = None
    native: NativeRequest | None = None
    bounds: RequestBounds = DEFAULT_BOUNDS

    def release_body(self) -> None:
        """Forget the bodies, which may be megabytes: nothing is tried again once a head is out."""
        self.body = self.original = b""

    def input_bound(self) -> int | None:
        """Return an upper bound of the input's tokens; None: only the model's context bounds it."""
        return input_token_bound(self.body)

    @property
    def is_facade(self) -> bool:
        """The caller speaks neither dialect itself: `body` was made here."""
        return self.responses is not None or self.native is not None

    def chat_body(self, caps: Capabilities, upstream_model: str) -> bytes:
        """Return a façade's chat request as an upstream of these abilities takes it."""
        if self.native is not None:
            return chat_request(
                self.native,
                model=upstream_model,
                limit_field=caps.max_tokens_param,
                min_output_tokens=caps.min_output_tokens,
            )
        body = self.body
        if caps.reasoning_in is None and self.original:
            body = translate_responses_request(self.original, carry_reasoning=False).body
        members = _MEMBERS.decode(body)
        members["model"] = Raw(msgspec.json.encode(upstream_model))
        limit = members.pop("max_completion_tokens", None)
        if limit is not None:
            members[caps.max_tokens_param] = limit
        # Hints: without them the answer is the same, with them a strict upstream answers 400.
        if not caps.prompt_cache_key:
            members.pop("prompt_cache_key", None)
        if caps.user_field != "safety_identifier":
            members.pop("safety_identifier", None)
        return msgspec.json.encode(members)

    def stream_translator(self) -> StreamTranslator | None:
        """Return a new translator of a chat stream for the client; None: a chat client."""
        return responses_stream(self.responses) if self.responses is not None else None

    def reshape(self, model: Model, caps: Capabilities) -> tuple[Reshape, ...]:
        """Return what turns a whole chat answer into the caller's; nothing: it is the same."""
        if self.responses is not None:
            context = self.responses
            return (lambda body: translate_responses_response(body, context),)
        if self.native is not None:
            asked = self.native.model
            return (
                lambda body: native_response(
                    body,
                    response_id=str(uuid.uuid4()),
                    model=asked,
                    prices=model.prices,
                    think_tags=caps.think_tags,
                ),
            )
        return ()


async def opened(
    endpoint: Endpoint,
    body: bytes,
    *,
    created: int,
    limits: NativeLimits,
    bounds: RequestBounds = DEFAULT_BOUNDS,
) -> InboundRequest:
    """Return `parse_request`, without holding the loop for long."""
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
        endpoint: What was asked for.
        body: The client's.
        created: Unix seconds.
        limits: What a caller of the native endpoint may ask for.
        bounds: How large the request's parts may be.

    Raises:
        GatewayError: BAD_REQUEST or UNSUPPORTED, naming the field.
    """
    counted = TRANSLATED_BYTES if endpoint in _TAKEN_APART else RELAYED_BYTES
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
    return InboundRequest(wire=endpoint.wire, body=body, fields=fields, bounds=bounds)


def _header_names(dropped: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of the caller's making as they may stand in a header and in the log."""
    names = (_INVISIBLE.sub("?", name[:MOST_DROPPED_LENGTH]) for name in dropped)
    return tuple(dict.fromkeys(names))[:MOST_DROPPED]
