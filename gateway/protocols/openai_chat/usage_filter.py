"""
Removes the usage event that the gateway requested and the client did not.

Only events whose JSON has `choices: []` and a usage that is not null are removed; every other byte
is forwarded unchanged.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.errors import GatewayError
from gateway.protocols.codec.event_filter import EventFilter, decoded_event
from gateway.protocols.codec.json_decode import decode_response
from gateway.protocols.openai_chat.response import RawChunk

_CHUNK: Final = msgspec.json.Decoder(RawChunk)
_SPACE: Final = b" \t\r\n"


class UsageChunkFilter(EventFilter):
    """Filters an OpenAI-wire stream for a client that did not request usage."""

    __slots__ = ()

    def is_plain(self, events: bytes) -> bool:
        """Return whether no event can contain usage, without decoding."""
        count = events.count(b'"usage"')
        return not count or count == (
            events.count(b'"usage":null') or events.count(b'"usage": null')
        )

    def removes(self, event: bytes) -> bool:
        """Return whether the event has usage and no choice."""
        decoded = decoded_event(event)
        try:
            return decoded is not None and _hides(decode_response(decoded.data, _CHUNK))
        except GatewayError:
            return False


def _hides(chunk: RawChunk) -> bool:
    is_empty = bytes(chunk.choices).translate(None, _SPACE) == b"[]"
    return is_empty and bytes(chunk.usage) not in (b"", b"null")
