"""The members of a Messages stream's event, and of a whole message, that meters use."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, gc=False):
    type: str | None = None
    message: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    delta: dict[str, msgspec.Raw] | None = None
    content_block: dict[str, msgspec.Raw] | None = None


class Message(msgspec.Struct, gc=False):
    type: str | None = None
    usage: msgspec.Raw = msgspec.Raw()
    stop_reason: str | None = None
    content: msgspec.Raw = msgspec.Raw()
