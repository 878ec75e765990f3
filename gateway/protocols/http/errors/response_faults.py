"""Finds errors and missing content in responses with status 200."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.model import Endpoint, Wire
from gateway.errors import GatewayError
from gateway.protocols.codec.json_decode import decode_or_none, decode_response
from gateway.protocols.http.errors.error_codes import FaultClass
from gateway.protocols.http.errors.upstream_faults import UpstreamFault, read_fault

MALFORMED_RESPONSE: Final = UpstreamFault(
    fault=FaultClass.BROKEN_OFF, message="The upstream sent an empty response."
)


class _Response(msgspec.Struct, gc=False):
    type: object = None
    kind: object = msgspec.field(default=None, name="object")
    error: msgspec.Raw = msgspec.Raw()
    choices: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    input_tokens: msgspec.Raw = msgspec.Raw()


class _Choice(msgspec.Struct, gc=False):
    message: msgspec.Raw = msgspec.Raw()
    delta: msgspec.Raw = msgspec.Raw()
    text: msgspec.Raw = msgspec.Raw()
    finish_reason: object = None


_DECODER: Final = msgspec.json.Decoder(_Response)
_CHOICES: Final = msgspec.json.Decoder(list[_Choice | None])
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NOTHING: Final = frozenset({b"", b"null", b"[]", b"{}", b'""', b"false"})


def read_response_fault(wire: Wire, endpoint: Endpoint, body: bytes) -> UpstreamFault | None:
    """
    Return the fault of a whole response with a success status; None: it has content.

    Args:
        wire: The upstream's API.
        endpoint: The operation that was requested of it.
        body: The complete body.
    """
    try:
        response = decode_response(body, _DECODER)
    except GatewayError:
        return MALFORMED_RESPONSE
    if bytes(response.error) not in _NOTHING or "error" in (response.type, response.kind):
        return read_fault(wire, 200, (), body)
    if endpoint is Endpoint.COUNT_TOKENS:
        member = response.input_tokens
    elif endpoint is Endpoint.EMBEDDINGS:
        member = response.data
    elif wire is Wire.ANTHROPIC:
        # An empty list is a valid response; a missing one is not.
        member = msgspec.Raw(b"[1]") if bytes(response.content) == b"[]" else response.content
    else:
        member = response.choices if _has_choice(response.choices) else msgspec.Raw()
    if bytes(member) not in _NOTHING:
        return None
    fault = read_fault(wire, 200, (), body)  # such as MiniMax's `base_resp`
    return fault if fault.message != "Upstream returned HTTP 200" else MALFORMED_RESPONSE


def _has_choice(choices: msgspec.Raw) -> bool:
    """
    Return whether a choice has a message; Azure sends none if it filters all of a response.

    A message without a finish reason must have content: a stream that ended after its first chunk
    has none.
    """
    try:
        given = decode_response(bytes(choices), _CHOICES)
    except GatewayError:
        return True  # not as documented, but not empty: the translation decides
    return any(
        each is not None
        and (
            each.finish_reason == "content_filter"
            or any(
                bytes(raw) not in _NOTHING and (each.finish_reason or not _is_blank(bytes(raw)))
                for raw in (each.message, each.delta, each.text)
            )
        )
        for each in given
    )


def _is_blank(message: bytes) -> bool:
    """Return whether a message has a role and nothing else."""
    members = decode_or_none(message, _MEMBERS)
    return members is not None and all(
        name == "role" or bytes(members[name]) in _NOTHING for name in members
    )
