"""
Thinking blocks that an Anthropic upstream would refuse, taken out of a conversation.

Thoughts of other models are given to Anthropic clients with a signature that starts with `gw1.`;
clients send them back. A real Anthropic endpoint checks signatures and answers 400, so these blocks
go before the request does. Thoughts signed by another provider's endpoint cannot be recognised:
when the upstream complains, all thoughts go, for one retry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.errors import GatewayError
from gateway.protocols.json_reading import decode_request
from gateway.protocols.json_spans import elements, members

FOREIGN_SIGNATURE: Final = "gw1."


class _Block(msgspec.Struct, gc=False):
    type: str | None = None
    signature: str | None = None


_BLOCK: Final = msgspec.json.Decoder(_Block)
_Rejects = Callable[[_Block], bool]


def strip_foreign_thoughts(body: bytes) -> bytes:
    """
    Return a Messages request without the thoughts that the gateway signed for other models.

    Assistant messages left empty go, too. What stays keeps its bytes; nothing to remove: `body`
    itself.

    Raises:
        GatewayError: BAD_REQUEST, the body is not what a Messages request looks like.
    """
    if b'"gw1.' not in body:
        return body
    return _stripped(body, _is_foreign)


def strip_all_thoughts(body: bytes) -> bytes:
    """
    Return a Messages request without any thinking block; else as `strip_foreign_thoughts`.

    Raises:
        GatewayError: BAD_REQUEST, the body is not what a Messages request looks like.
    """
    return _stripped(body, _is_thought)


def _is_foreign(block: _Block) -> bool:
    return block.type == "thinking" and (block.signature or "").startswith(FOREIGN_SIGNATURE)


def _is_thought(block: _Block) -> bool:
    return block.type in ("thinking", "redacted_thinking")


def _stripped(body: bytes, rejects: _Rejects) -> bytes:
    def messages(raw: bytes) -> bytes:
        return _each(raw, message)

    def message(raw: bytes) -> bytes | None:
        changed = _member(raw, "content", blocks)
        emptied = changed is not raw and any(
            changed[start:end] == b"[]" for key, start, end in members(changed) if key == "content"
        )
        return None if emptied else changed

    def blocks(raw: bytes) -> bytes:
        return _each(raw, block)

    def block(raw: bytes) -> bytes | None:
        try:
            rejected = rejects(decode_request(raw, _BLOCK))
        except GatewayError:
            rejected = False  # not a block as we know it: for the upstream to judge
        return None if rejected else raw

    return _member(body, "messages", messages)


def _member(raw: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return the object with the value of `name` changed; `raw` itself if nothing changed."""
    if raw.lstrip()[:1] != b"{":
        return raw
    parts: list[bytes] = []
    at = 0
    for key, start, end in members(raw):
        if key == name:
            parts += (raw[at:start], change(raw[start:end]))
            at = end
    parts.append(raw[at:])
    changed = b"".join(parts)
    return raw if changed == raw else changed


def _each(raw: bytes, change: Callable[[bytes], bytes | None]) -> bytes:
    """Return the array with each element changed or removed; `raw` itself if nothing changed."""
    if raw[:1] != b"[":
        return raw
    spans = elements(raw)
    changed = [change(raw[start:end]) for start, end in spans]
    if all(new == raw[start:end] for new, (start, end) in zip(changed, spans, strict=True)):
        return raw
    return b"[" + b",".join(new for new in changed if new is not None) + b"]"
