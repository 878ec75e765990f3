"""
Writes the chunks of an OpenAI stream.

The bytes before and after a piece of text are the same in all chunks of a stream. They are built
once, when the id is known, so that a piece costs one JSON string between two constants.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from gateway.protocols.codec.sse import DONE
from gateway.protocols.openai_chat.completion import (
    CompletionUsage,
    ToolCall,
)

_encode: Final = msgspec.json.Encoder().encode
_PING: Final = b": ping\n\n"


class Frame(NamedTuple):
    """The bytes around the JSON string of one kind of chunk."""

    before: bytes
    after: bytes


class ChunkWriter:
    """
    Collects the chunks of one network read.

    Args:
        model: The name that every chunk repeats.
        created: Unix seconds.
        include_usage: The client requested a usage chunk: every chunk contains `usage`, null in all
            but the last.
    """

    __slots__ = (
        "_after", "_before", "_created", "_head", "_include_usage", "_model", "_pieces",
        "_reasoning", "_text",
    )  # fmt: skip

    def __init__(self, model: str, created: int, *, include_usage: bool) -> None:
        self._model = _encode(model)
        self._created = created
        self._include_usage = include_usage
        self._pieces: list[bytes] = []
        self._before = b""
        self._after = b',"logprobs":null,"finish_reason":null}]' + self._end()
        self._head = b""
        self._text = Frame(b"", b"")
        self._reasoning = Frame(b"", b"")

    def start(self, response_id: str | None) -> None:
        """Write the first chunk, which contains the role."""
        self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,' % (
            _encode(response_id),
            self._created,
            self._model,
        )
        self._before = b'%b"choices":[{"index":0,"delta":' % self._head
        self._text = self._frame(b'{"content":', b"}")
        self._reasoning = self._frame(b'{"reasoning_content":', b"}")
        self._delta(b'{"role":"assistant","content":""}')

    def text(self, text: str) -> None:
        """Write a chunk with a piece of text; `text` has no surrogates."""
        before, after = self._text
        self._pieces += (before, _encode(text), after)

    def reasoning(self, text: str) -> None:
        """Write a chunk with a piece of reasoning; `text` has no surrogates."""
        before, after = self._reasoning
        self._pieces += (before, _encode(text), after)

    def arguments_frame(self, index: int) -> Frame:
        """Return the frame of a piece of a call's arguments; `index` counts calls from 0."""
        return self._frame(b'{"tool_calls":[{"index":%d,"function":{"arguments":' % index, b"}}]}")

    def piece(self, frame: Frame, text: str) -> None:
        """Write a chunk with a piece of text; `text` has no surrogates."""
        self._pieces += (frame.before, _encode(text), frame.after)

    def details(self, details: list[dict[str, object]]) -> None:
        """Write a chunk with complete reasoning details."""
        self._delta(b'{"reasoning_details":%b}' % _encode(details))

    def call(self, call: ToolCall) -> None:
        """Write the first chunk of a tool call: index, id, type and name, once."""
        self._delta(b'{"tool_calls":[%b]}' % _encode(call))

    def finish_chunk(self, reason: str) -> None:
        """Write the chunk with the finish reason."""
        after = b',"logprobs":null,"finish_reason":"%b"}]' % reason.encode()
        self._pieces += (self._before, b"{}", after, self._end())

    def done(self, usage: CompletionUsage) -> None:
        """Write the usage chunk, if the client requested it, and the end."""
        if self._include_usage:
            self._pieces.append(b'%b"choices":[],"usage":%b}\n\n' % (self._head, _encode(usage)))
        self._pieces.append(DONE)

    def ping(self) -> None:
        """Write a comment that keeps the connection alive."""
        self._pieces.append(_PING)

    def write(self, event: bytes) -> None:
        """Write an encoded event."""
        self._pieces.append(event)

    def take(self) -> bytes:
        """Return everything written since the last call."""
        if not self._pieces:
            return b""
        written = b"".join(self._pieces)
        self._pieces.clear()
        return written

    def _end(self) -> bytes:
        return b',"usage":null}\n\n' if self._include_usage else b"}\n\n"

    def _frame(self, before: bytes, after: bytes) -> Frame:
        return Frame(self._before + before, after + self._after)

    def _delta(self, delta: bytes) -> None:
        self._pieces += (self._before, delta, self._after)
