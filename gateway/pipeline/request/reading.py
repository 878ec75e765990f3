"""Reads the requests of clients, each into one of the two dialects that upstreams speak."""

from __future__ import annotations

import re

import msgspec

from gateway.core.model import Endpoint, Wire
from gateway.pipeline.offload import LOOP_BYTES, is_long_walk, offloaded
from gateway.pipeline.request.inbound_request import InboundRequest
from gateway.protocols.codec.json_decode import BOM
from gateway.protocols.http.request.bounds import (
    DEFAULT_BOUNDS,
    RELAYED_BYTES,
    TRANSLATED_BYTES,
    RequestBounds,
    check_parts,
)
from gateway.protocols.http.request.fields import check_request, decode_call
from gateway.protocols.http.request.model_fallbacks import Fallback, names_fallbacks, take_fallbacks
from gateway.protocols.native_chat import (
    NativeLimits,
    chat_request,
    read_native_request,
    require_web_search,
)
from gateway.protocols.openai_responses.request import translate_responses_request

MOST_DROPPED = 32

MOST_DROPPED_LENGTH = 64
"""Bounds of the reported names: clients can invent field names and types."""

_PARSED = frozenset({Endpoint.RESPONSES, Endpoint.COUNT_TOKENS})

_INVISIBLE = re.compile(r"[^!-~]")


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
