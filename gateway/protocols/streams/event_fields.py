"""The fields of an upstream's event or whole response that meters use, and how they are decoded."""

from __future__ import annotations

import msgspec

from gateway.core.model import Usage


class EventFields(msgspec.Struct, frozen=True, gc=False):
    """The fields of one event; defaults if they are absent."""

    usage: Usage | None = None
    raw_usage: bytes | None = None
    unreadable_usage: bool = False
    """There is a usage object, but it cannot be read."""
    final_usage: bool = False
    """The usage covers the output."""
    finish_reason: str | None = None
    start: bool = False
    """The wire's first event, if it has one."""
    end: bool = False
    """The wire's last event, or a complete document."""
    failed: bool = False
    without_message: bool = False
    """The response has no message, although it may report usage."""
    content_bytes: int = 0
    """Length of the JSON strings that hold content."""
    block_bytes: int = 0
    """Length of content in a block's start instead of a delta."""
    alive: bool = False
    """Progress without a delta: a tool call's block has started."""
    block_end: bool = False
    """A block of content has ended; the next event begins another or ends the message."""


class Holder(msgspec.Struct, gc=False):
    """An object with usage among its members."""

    usage: msgspec.Raw = msgspec.Raw()


class Choice(msgspec.Struct, gc=False):
    delta: dict[str, msgspec.Raw] | None = None
    message: dict[str, msgspec.Raw] | None = None
    finish_reason: str | None = None
    usage: msgspec.Raw = msgspec.Raw()


class _Given(msgspec.Struct, gc=False):
    """Any object, decoded without allocating its values."""


class _UsualChoice(msgspec.Struct, gc=False):
    message: _Given | None = None
    finish_reason: str | None = None


class UsualResponse(msgspec.Struct, gc=False):
    """The fields of a response that reports its usage: its content stays undecoded."""

    choices: list[_UsualChoice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    service_tier: object = None


class Piece(msgspec.Struct, gc=False):
    """An element of a delta's `tool_calls` or `reasoning_details`."""

    function: Piece | None = None
    name: msgspec.Raw = msgspec.Raw()
    arguments: msgspec.Raw = msgspec.Raw()
    text: msgspec.Raw = msgspec.Raw()
    summary: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
