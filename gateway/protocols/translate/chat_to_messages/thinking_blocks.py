"""
Translates the reasoning in an OpenAI history to Anthropic thinking blocks.

Anthropic accepts only reasoning that it signed or encrypted itself, so other reasoning is dropped:
it has no signature, the gateway's signature, or a format that names another vendor.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gateway.protocols.anthropic_messages.message import Block
from gateway.protocols.codec.absent import is_given
from gateway.protocols.codec.json_decode import decode_or_none
from gateway.protocols.ids import is_synthetic
from gateway.protocols.openai_chat.request import Message

FORMAT: Final = "anthropic-claude-v1"
"""`format` of a reasoning detail that Anthropic signed or encrypted."""

_FOREIGN: Final = ("openai", "azure", "xai", "google")
"""How `format` begins for reasoning of another vendor."""


class _Reasoning(msgspec.Struct, gc=False):
    """An entry of `reasoning_details`, or of `thinking_blocks`."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    format: str | None = None


_THINKING: Final = msgspec.json.Decoder(list[_Reasoning])


def thinking_blocks(message: Message) -> list[Block]:
    """
    Return an assistant message's reasoning that Anthropic will accept, in order.

    It is read from `reasoning_details`, or else from `thinking_blocks`: clients that send both
    repeat it. Unreadable entries are dropped, so that the history stays usable.
    """
    for listed in (message.reasoning_details, message.thinking_blocks):
        blocks = [block for reasoning in _read(listed) if (block := _block(reasoning)) is not None]
        if blocks:
            return blocks
    return []


def _read(listed: Raw) -> list[_Reasoning]:
    if not is_given(listed):
        return []
    return decode_or_none(bytes(listed), _THINKING) or []


def _block(reasoning: _Reasoning) -> Block | None:
    if (reasoning.format or "").startswith(_FOREIGN):
        return None
    if reasoning.type in ("reasoning.encrypted", "redacted_thinking"):
        return Block("redacted_thinking", data=reasoning.data) if reasoning.data else None
    if not reasoning.signature or is_synthetic(reasoning.signature):
        return None
    words = reasoning.text if reasoning.text is not None else reasoning.thinking
    return Block("thinking", thinking=words or "", signature=reasoning.signature)
