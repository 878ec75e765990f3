"""
Builds the output of a response object from the events of a chat response.

Items are in order of appearance. At most one reasoning or message item is open; content of another
kind closes it. Calls stay open side by side until the finish, since their pieces may be
interleaved. Providers may send the same reasoning in several members: only the first one with text
is read.
"""

from __future__ import annotations

from typing import Final

from gateway.protocols.codec.json_decode import join_surrogates
from gateway.protocols.ids import UnusedIds, cleaned
from gateway.protocols.openai_chat.response import (
    CallFragment,
    Delta,
    content_texts,
    detail_text,
    thought_signature,
)
from gateway.protocols.openai_chat.usage import ChatUsage
from gateway.protocols.openai_responses.compaction import NO_SUMMARY
from gateway.protocols.openai_responses.context import ResponsesContext, ToolName
from gateway.protocols.openai_responses.items import (
    CallItem,
    CompactionItem,
    EventWriter,
    Json,
    MessageItem,
    OutputItem,
    ReasoningItem,
    encode,
)
from gateway.protocols.openai_responses.reasoning import signed_entries
from gateway.protocols.translate.chat_dialect.history import GOOGLE_FORMAT
from gateway.protocols.translate.tool_fragments import (
    CallState,
    CallTable,
    ToolRecord,
)

_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


class OutputBuilder:
    """
    The growing output of one response.

    Args:
        writer: Receives the events.
        context: Of the request.
        upstream_id: Of the chat response; all ids of items derive from it.
    """

    __slots__ = (
        "_base_id",
        "_calls",
        "_context",
        "_ids",
        "_items",
        "_open",
        "_open_calls",
        "_reads_details",
        "_summary",
        "_table",
        "_writer",
    )

    def __init__(self, writer: EventWriter, context: ResponsesContext, upstream_id: str) -> None:
        self._writer = writer
        self._context = context
        self.derive_ids(upstream_id)
        self._items: list[OutputItem] = []
        self._open: MessageItem | ReasoningItem | None = None
        self._open_calls: dict[int, tuple[ToolRecord, CallItem]] = {}
        self._table = CallTable()
        self._ids = UnusedIds(context.history_ids)
        self._reads_details: bool | None = None
        self._summary: CompactionItem | None = None

    @property
    def response_id(self) -> str:
        return f"resp_{self._base_id}"

    @property
    def finished_items(self) -> list[Json]:
        """The items that are complete, in output order."""
        return [item.done for item in self._items if item.done is not None]

    def derive_ids(self, upstream_id: str) -> None:
        """Derive further ids from the id of a chat completion."""
        token = self._context.token or cleaned(upstream_id.removeprefix("chatcmpl-"))
        self._base_id = token or "unknown"

    def add(self, message: Delta) -> None:
        """Add a whole message: reasoning, text, refusal, then calls."""
        text, parts = content_texts(message.content)
        reasoning = message.reasoning_content or message.reasoning or parts
        if reasoning:
            self.reasoning(reasoning)
        if message.reasoning_details:
            self.reasoning_details(message.reasoning_details, has_text=bool(reasoning))
        if text:
            self.text(text)
        if message.refusal:
            self.refusal(message.refusal)
        for fragment in message.calls:
            self.tool_call(fragment)

    def text(self, text: str) -> None:
        if self._context.compacts:
            self._compaction().add(text)
        else:
            self._message().add("output_text", text)

    def refusal(self, text: str) -> None:
        """Add text of a refusal."""
        self._message().add("refusal", text)

    def reasoning(self, text: str) -> None:
        """Add reasoning; text in details is ignored from now on."""
        self._reads_details = False
        self._reasoning().add(text)

    def reasoning_details(self, details: list[Json], *, has_text: bool) -> None:  # noqa: ARG002
        """Add signed parts, and the details' text unless reasoning came in another member."""
        if self._reads_details is not False:
            text = self._text_in(details)
            self._reads_details = bool(text) or self._reads_details
            if text:
                self._reasoning().add(text)
        if signed_entries(details):
            self._reasoning().add_details(details)

    def tool_call(self, fragment: CallFragment) -> None:
        """Add a piece of a tool call; calls are not part of a summary."""
        if self._context.compacts:
            return
        record = self._table.find(fragment)
        if record is None or record.state is CallState.CLOSED:
            return
        arguments = record.take(fragment)
        if record.state is CallState.WAITING and record.name:
            self._open_call(record, thought_signature(fragment.extra_content))
        elif record.state is CallState.LIVE:
            self._open_calls[record.ordinal][1].add(arguments)

    def close(self) -> None:
        """Complete all open items: text or reasoning first, then calls in order of appearance."""
        self._close_open()
        if self._summary is not None and self._summary.done is None:
            self._summary.close()
        for record, item in self._open_calls.values():
            rest = record.flush()
            item.add(rest)
            record.state = CallState.CLOSED
            item.close(record.arguments)
        self._open_calls = {}

    @property
    def lacks_summary(self) -> bool:
        """Whether a summary was requested and none was written."""
        if not self._context.compacts:
            return False
        return self._summary is None or not self._summary.has_text

    def _compaction(self) -> CompactionItem:
        """Return the only compaction item, which stays open beside all others."""
        if self._summary is None:
            self._close_open()
            self._summary = CompactionItem(self._writer, self._base_id, len(self._items))
            self._items.append(self._summary)
        return self._summary

    def _message(self) -> MessageItem:
        if not isinstance(self._open, MessageItem):
            self._close_open()
            self._open = MessageItem(self._writer, self._base_id, len(self._items))
            self._items.append(self._open)
        return self._open

    def _reasoning(self) -> ReasoningItem:
        if not isinstance(self._open, ReasoningItem):
            self._close_open()
            self._open = ReasoningItem(self._writer, self._base_id, len(self._items))
            self._items.append(self._open)
        return self._open

    def _text_in(self, details: list[Json]) -> str:
        """Return the new text in details; a signed entry repeats text that was already sent."""
        if isinstance(self._open, ReasoningItem) and self._open.has_text:
            details = [entry for entry in details if not entry.get("signature")]
        return detail_text(details)

    def _close_open(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _open_call(self, record: ToolRecord, signature: str | None) -> None:
        call_id = join_surrogates(record.id) or f"call_{self._base_id}_{len(self._items)}"
        call_id = self._ids.take(call_id)
        if signature is not None:
            # A call's item has no member for a signature: the reasoning before it carries it.
            kind = {"type": "reasoning.encrypted", "format": GOOGLE_FORMAT}
            self._reasoning().add_details([{**kind, "id": call_id, "data": signature}])
        self._close_open()
        record.state = CallState.LIVE
        index = len(self._items)
        name = self._context.tool_names.get(record.name) or ToolName(record.name)
        item = CallItem(self._writer, self._base_id, index, name, call_id)
        self._items.append(item)
        self._open_calls[record.ordinal] = (record, item)
        item.add(record.arguments)


def response_object(
    context: ResponsesContext,
    response_id: str,
    status: str,
    *,
    output: list[Json],
    usage: ChatUsage | None = None,
    incomplete: str | None = None,
    error: Json | None = None,
) -> bytes:
    """Return the response object as JSON; `status` is in_progress, completed, ... ."""
    return encode(
        {
            "id": response_id,
            "object": "response",
            "created_at": context.created,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": None if incomplete is None else {"reason": incomplete},
            "model": context.model,
            "output": output,
            "previous_response_id": context.previous_response_id,
            "truncation": "disabled",
            "usage": None if usage is None else _usage(usage),
        }
        | context.echo
        | {"store": context.store}
    )


def without_store(response: bytes) -> bytes:
    """Return a response object with `store` false; `store` is its last member."""
    return response.removesuffix(b"true}") + b"false}"


def final_response(
    context: ResponsesContext, builder: OutputBuilder, finish: str | None, usage: ChatUsage | None
) -> tuple[str, bytes]:
    """Return the status and the object of a response that has ended."""
    reason = _INCOMPLETE.get(finish or "")
    status = "completed" if reason is None else "incomplete"
    error: Json | None = None
    if reason is None and builder.lacks_summary:
        status, error = "failed", {"code": "server_error", "message": NO_SUMMARY}
    response = response_object(
        context,
        builder.response_id,
        status,
        output=builder.finished_items,
        usage=usage,
        incomplete=reason,
        error=error,
    )
    return status, response


def _usage(usage: ChatUsage) -> Json:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.cache_write,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": usage.total,
    }
