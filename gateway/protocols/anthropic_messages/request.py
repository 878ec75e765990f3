"""
The parts of an Anthropic Messages request that the gateway interprets.

Values that only pass through stay raw bytes: schemas, tool inputs and numbers (big integers, `1.0`)
must not change. Blocks of all types are one struct, so that a block of an unknown type can still be
dropped or named in an error.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from gateway.protocols.codec.absent import ABSENT


class Block(msgspec.Struct, gc=False):
    """A content block of any type; which members apply depends on `type`."""

    type: str
    text: str | None = None
    cache_control: Raw = ABSENT
    source: Raw = ABSENT
    """An object for images and documents, a string for search results."""
    title: str | None = None
    context: str | None = None
    content: Raw = ABSENT
    """A string, a list of blocks, or whatever a server tool returned."""
    id: str | None = None
    name: str | None = None
    input: Raw = ABSENT
    tool_use_id: str | None = None
    is_error: bool | None = None
    tool_name: str | None = None
    thinking: str | None = None
    signature: str | None = None


class Source(msgspec.Struct, gc=False):
    """Where an image's or document's bytes are."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: Raw = ABSENT


class Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[Block]


class Tool(msgspec.Struct, gc=False):
    """A tool; `type` is absent or `custom` for one that the client runs."""

    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: Raw = ABSENT
    strict: bool | None = None


class ToolChoice(msgspec.Struct, gc=False):
    """Which tool the model must use."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, gc=False):
    """Whether and how much the model thinks."""

    type: str
    budget_tokens: int | None = None


class OutputFormat(msgspec.Struct, gc=False):
    """The schema of the response's text."""

    type: str
    schema: Raw = ABSENT


class OutputConfig(msgspec.Struct, gc=False):
    """Effort and format."""

    effort: str | None = None
    format: OutputFormat | None = None


class Metadata(msgspec.Struct, gc=False):
    """The end user's id."""

    user_id: str | None = None


class MessagesRequest(msgspec.Struct, gc=False):
    """The top level. Members not listed are unknown and have no effect."""

    model: str | None = None
    max_tokens: int | None = None
    messages: list[Message] | None = None
    system: str | list[Block] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    temperature: Raw = ABSENT
    top_p: Raw = ABSENT
    top_k: Raw = ABSENT
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
    cache_control: Raw = ABSENT
    context_management: Raw = ABSENT
    fallbacks: Raw = ABSENT
    speed: Raw = ABSENT
    diagnostics: Raw = ABSENT
    inference_geo: Raw = ABSENT
    container: Raw = ABSENT
    mcp_servers: Raw = ABSENT
    compaction: Raw = ABSENT
    thread: Raw = ABSENT
