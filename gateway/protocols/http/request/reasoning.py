"""
Removes the reasoning of other models from relayed Messages requests.

Anthropic clients receive the reasoning of other models with a signature that starts with `gw1.`,
and send it back. Anthropic endpoints check signatures and respond 400, so these blocks are removed
first. Reasoning signed by another provider cannot be recognised: if the upstream rejects it, the
request is retried once without any reasoning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.errors import GatewayError
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.codec.json_spans import members
from gateway.protocols.http.request.rewrite import edited_elements, edited_member

FOREIGN_SIGNATURE: Final = "gw1."


class _Block(msgspec.Struct, gc=False):
    type: str | None = None
    signature: str | None = None


_BLOCK: Final = msgspec.json.Decoder(_Block)

_Rejects = Callable[[_Block], bool]


def has_foreign_reasoning(body: bytes) -> bool:
    """Return whether a Messages request may contain reasoning that the gateway signed."""
    return b'"gw1.' in body


def strip_foreign_reasoning(body: bytes) -> bytes:
    """
    Return a Messages request without the reasoning that the gateway signed for other models.

    Assistant messages left empty are removed too. All other bytes are kept; `body` itself is
    returned if nothing is removed.

    Raises:
        GatewayError: BAD_REQUEST: the body is not a Messages request.
    """
    if not has_foreign_reasoning(body):
        return body
    return _stripped(body, _is_foreign)


def strip_all_reasoning(body: bytes) -> bytes:
    """
    Return a Messages request without thinking blocks; otherwise as `strip_foreign_reasoning`.

    Raises:
        GatewayError: BAD_REQUEST: the body is not a Messages request.
    """
    return _stripped(body, _is_reasoning)


def _is_foreign(block: _Block) -> bool:
    return block.type == "thinking" and (block.signature or "").startswith(FOREIGN_SIGNATURE)


def _is_reasoning(block: _Block) -> bool:
    return block.type in ("thinking", "redacted_thinking")


def _stripped(body: bytes, rejects: _Rejects) -> bytes:
    def messages(raw: bytes) -> bytes:
        return edited_elements(raw, message)

    def message(raw: bytes) -> bytes | None:
        changed = edited_member(raw, "content", blocks)
        emptied = changed is not raw and any(
            changed[start:end] == b"[]" for key, start, end in members(changed) if key == "content"
        )
        return None if emptied else changed

    def blocks(raw: bytes) -> bytes:
        return edited_elements(raw, block)

    def block(raw: bytes) -> bytes | None:
        try:
            rejected = rejects(decode_request(raw, _BLOCK))
        except GatewayError:
            rejected = False  # an unknown block: left to the upstream
        return None if rejected else raw

    return edited_member(body, "messages", messages)
