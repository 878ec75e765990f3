"""
Orders interleaved pieces of text, reasoning and tool calls into one block after the other.

Theory. An OpenAI-wire stream may interleave the arguments of several calls, and text with them; an
Anthropic stream has one open block. The first call whose name is known is *live*: its arguments
pass at once. While it is incomplete, everything else waits in `pending`, in order of first
appearance. Once its arguments are a complete JSON object, the next entry may open; when the
upstream finishes, all entries are released, complete or not. So consecutive calls are streamed
without delay, and of interleaved ones the first.

Rules of this file:

* Arguments are never repaired: a call cut off by the output limit stays partial JSON.
* Fragments of a closed call are dropped (seen: a trailing space, a second brace).
* A call opens only when its name is known; a call without a name is dropped.
* The waiting text is bounded (`LIMIT_CHARS`).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.writer import EventWriter, Prose
from gateway.protocols.ids import UnusedIds, missing_id, signature_of, to_anthropic_id
from gateway.protocols.openai_chat.response import CallFragment
from gateway.protocols.translate.stream import ResponseContext
from gateway.protocols.translate.tool_fragments import CallState, CallTable, ToolRecord

LIMIT_CHARS: Final = 8 * 1024 * 1024
"""Most characters kept of waiting text and of all calls' arguments."""


class WaitingText:
    """Text or reasoning that waits until a call is complete."""

    __slots__ = ("kind", "pieces")

    def __init__(self, kind: Prose, text: str) -> None:
        self.kind = kind
        self.pieces = [text]


class BlockSequencer:
    """
    Writes the blocks of one response, one after the other.

    Args:
        writer: Receives the events.
        context: Tool names to restore, and ids that must not be repeated.
    """

    __slots__ = (
        "_calls",
        "_context",
        "_ids",
        "_kept_chars",
        "_live",
        "_pending",
        "_writer",
        "has_calls",
        "upstream_id",
    )

    def __init__(self, writer: EventWriter, context: ResponseContext) -> None:
        self._writer = writer
        self._context = context
        self._calls = CallTable()
        self._live: ToolRecord | None = None
        self._pending: deque[ToolRecord | WaitingText] = deque()
        self._ids = UnusedIds(context.history_ids)
        self._kept_chars = 0
        self.has_calls = False
        """Whether a call was opened."""
        self.upstream_id = ""
        """The upstream's message id, for calls without an id."""

    def put(self, kind: Prose, text: str) -> None:
        """
        Add text or reasoning, not empty.

        Raises:
            GatewayError: UPSTREAM_MALFORMED, too much is waiting.
        """
        if self._pending or (self._live is not None and not self._live.is_complete()):
            self._wait(kind, text)
            return
        self._write_prose(kind, text)

    def add_call(self, fragment: CallFragment) -> None:
        """
        Add a piece of a tool call.

        Raises:
            GatewayError: UPSTREAM_MALFORMED, too much is waiting.
        """
        record = self._calls.find(fragment)
        if record is None or record.state is CallState.CLOSED:
            return
        is_new = not record.is_known
        record.is_known = True
        text = record.take(fragment)
        self._keep(text)
        if record is self._live:
            if text:
                self._writer.delta(text)
        elif is_new:
            self._pending.append(record)
        if self._pending:
            self._release()

    def flush(self) -> None:
        """Release everything, complete or not, and close the open block."""
        while self._pending:
            self._open_entry(self._pending.popleft())
        self._end_live()
        self._writer.close()

    def _release(self) -> None:
        """Open waiting entries until one is live."""
        while self._pending:
            if self._live is not None and not self._live.is_complete():
                return
            head = self._pending[0]
            if isinstance(head, ToolRecord) and not head.name:
                return
            self._open_entry(self._pending.popleft())

    def _open_entry(self, entry: ToolRecord | WaitingText) -> None:
        if isinstance(entry, WaitingText):
            self._write_prose(entry.kind, "".join(entry.pieces))
        elif entry.name:
            self._open_call(entry)

    def _write_prose(self, kind: Prose, text: str) -> None:
        if self._writer.open_kind != kind:
            self._end_live()
            self._writer.open_prose(kind)
        self._writer.delta(text)

    def _open_call(self, record: ToolRecord) -> None:
        self._end_live()
        if record.signature is not None:
            self._writer.open_prose("thinking")
            self._writer.close(signature_of(record.signature))
        call_id = self._call_id(record)
        self._writer.open_tool(call_id, self._context.tool_names.get(record.name, record.name))
        record.state = CallState.LIVE
        self._live = record
        self.has_calls = True
        arguments = record.arguments
        if arguments:
            self._writer.delta(arguments)

    def _call_id(self, record: ToolRecord) -> str:
        if record.id:
            return self._ids.take(to_anthropic_id(record.id))
        return self._ids.take(missing_id(self.upstream_id, record.ordinal))

    def _end_live(self) -> None:
        """Mark the live call as closed; the next block closes its own."""
        live, self._live = self._live, None
        if live is not None:
            rest = live.flush()
            if rest:
                self._writer.delta(rest)
            live.state = CallState.CLOSED

    def _wait(self, kind: Prose, text: str) -> None:
        self._keep(text)
        last = self._pending[-1] if self._pending else None
        if isinstance(last, WaitingText) and last.kind == kind:
            last.pieces.append(text)
        else:
            self._pending.append(WaitingText(kind, text))

    def _keep(self, text: str) -> None:
        self._kept_chars += len(text)
        if self._kept_chars > LIMIT_CHARS:
            raise GatewayError(
                ErrorKind.UPSTREAM_MALFORMED,
                "Upstream sent malformed data",
                detail=f"tool calls beyond {LIMIT_CHARS} characters",
            )
