"""Messages and tools of an Anthropic Messages request, as the gateway writes them for upstreams."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType


class Source(msgspec.Struct, gc=False, omit_defaults=True):
    """Where an image's or document's bytes are."""

    type: Literal["base64", "url", "text"]
    media_type: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    url: str | UnsetType = UNSET


class Block(msgspec.Struct, omit_defaults=True):
    """A content block; which members are set depends on `type`."""

    type: Literal[
        "text", "image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result"
    ]
    text: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    """A JSON object, as the client wrote it."""
    tool_use_id: str | UnsetType = UNSET
    content: str | list[Block] | UnsetType = UNSET
    source: Source | UnsetType = UNSET
    title: str | UnsetType = UNSET
    cache_control: Raw | UnsetType = UNSET


class Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: list[Block]


class Tool(msgspec.Struct, gc=False, omit_defaults=True):
    """A tool that the client runs."""

    name: str
    description: str | UnsetType = UNSET
    input_schema: Raw | UnsetType = UNSET
    """A JSON schema with an object at its root."""
    strict: bool | UnsetType = UNSET
    cache_control: Raw | UnsetType = UNSET


class ToolChoice(msgspec.Struct, gc=False, omit_defaults=True):
    """Which tool the model must use."""

    type: Literal["auto", "none", "any", "tool"]
    name: str | UnsetType = UNSET
    disable_parallel_tool_use: bool | UnsetType = UNSET


def text_block(text: str) -> Block:
    return Block("text", text=text)
