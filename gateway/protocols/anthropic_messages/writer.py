"""
Writes the events of an Anthropic stream.

Invariant: one block is open at a time, indexes are 0, 1, 2, ... in order, and a closed block never
gets another delta. Clients address deltas by index, but are tested against this order only.

A delta, which is nearly all of a stream, is a constant prefix (made when its block opens), one JSON
string and a constant suffix.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from gateway.protocols.anthropic_messages.response import AnthropicUsage, Stop
from gateway.protocols.codec.sse import anthropic_event
from gateway.protocols.ids import SIGNATURE

Prose = Literal["text", "thinking"]
Open = Literal["text", "thinking", "tool", "none"]

PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
"""Valid anywhere in a stream, also inside a block; keeps a silent connection open."""

_ENCODE: Final = msgspec.json.Encoder().encode
_SUFFIX: Final = b"}}\n\n"
_DELTAS: Final[dict[str, bytes]] = {
    "text": b'"type":"text_delta","text":',
    "thinking": b'"type":"thinking_delta","thinking":',
    "signature": b'"type":"signature_delta","signature":',
    "tool": b'"type":"input_json_delta","partial_json":',
}
_BLOCKS: Final[dict[str, bytes]] = {
    "text": b'{"type":"text","text":""}',
    "thinking": b'{"type":"thinking","thinking":"","signature":""}',
}
_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class EventWriter:
    """
    Collects the events of one response.

    `open_kind` is the kind of the open block. `take` returns what was written since its last call.
    """

    __slots__ = ("_index", "_out", "_prefix", "open_kind")

    def __init__(self) -> None:
        self._out: list[bytes] = []
        self._index = -1
        self._prefix = b""
        self.open_kind: Open = "none"

    def take(self) -> bytes:
        """Return everything written since the last call, `b""` if nothing was."""
        if not self._out:
            return b""
        written = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return written

    def start_message(self, message_id: str, model: str, usage: AnthropicUsage) -> None:
        message: dict[str, object] = {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        body = _ENCODE({"type": "message_start", "message": message})
        self._out.append(anthropic_event(b"message_start", body))

    def open_prose(self, kind: Prose) -> None:
        """Close the open block and open one of text or thinking."""
        self._open(kind, _BLOCKS[kind])

    def open_tool(self, call_id: str, name: str) -> None:
        """Close the open block and open a tool call without input."""
        block = b'{"type":"tool_use","id":%b,"name":%b,"input":{}}' % (
            _ENCODE(call_id),
            _ENCODE(name),
        )
        self._open("tool", block)

    def delta(self, text: str) -> None:
        """Write a delta of the open block; `text` has no lone surrogates and is not empty."""
        self._out.append(self._prefix + _ENCODE(text) + _SUFFIX)

    def close(self, signature: str = SIGNATURE) -> None:
        """
        Close the open block, if any.

        A thinking block gets its signature first: without one, clients would store a block that
        upstreams reject later.
        """
        if self.open_kind == "none":
            return
        if self.open_kind == "thinking":
            self._out.append(self._prefix_for("signature") + _ENCODE(signature) + _SUFFIX)
        body = b'{"type":"content_block_stop","index":%d}' % self._index
        self._out.append(anthropic_event(b"content_block_stop", body))
        self.open_kind = "none"

    def finish(self, stop: Stop, usage: AnthropicUsage) -> None:
        """Write `message_delta` and `message_stop`; nothing may follow."""
        body = _ENCODE({"type": "message_delta", "delta": stop, "usage": usage})
        self._out.append(anthropic_event(b"message_delta", body))
        self._out.append(_STOP)

    def write(self, event: bytes) -> None:
        """Write an encoded event."""
        self._out.append(event)

    def _open(self, kind: Literal["text", "thinking", "tool"], block: bytes) -> None:
        self.close()
        self._index += 1
        body = b'{"type":"content_block_start","index":%d,"content_block":%b}' % (
            self._index,
            block,
        )
        self._out.append(anthropic_event(b"content_block_start", body))
        self.open_kind = kind
        self._prefix = self._prefix_for(kind)

    def _prefix_for(self, delta: str) -> bytes:
        return (
            b"event: content_block_delta\n"
            b'data: {"type":"content_block_delta","index":%d,"delta":{%b'
        ) % (self._index, _DELTAS[delta])
