"""
Reads a stream of chat chunks as chat events.

Rules of this file:

* The order within a chunk is: error, usage, the beginning, reasoning, text, refusal, tool calls,
  finish reason. Deltas after the finish reason are still delivered.
* Providers may send the same reasoning in several members: only the first that is not empty counts.
* The response ends after a finish reason or `[DONE]`. A body that ends before is an error, since an
  agent would take the truncated response for a complete one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.model import Usage, Wire
from gateway.protocols.codec.sse import Event
from gateway.protocols.codec.usage_bound import UNBOUNDED, UsageBound
from gateway.protocols.http.errors.error_codes import FaultClass
from gateway.protocols.http.errors.upstream_faults import (
    RESOURCES_GONE,
    STREAM_EMPTY,
    UpstreamFault,
    read_stream_fault,
)
from gateway.protocols.openai_chat.lenient import (
    decode_chunk,
    is_error_object,
    named_reason,
    plain_reason,
)
from gateway.protocols.openai_chat.response import (
    FAILED_REASONS,
    Choice,
    Chunk,
    Delta,
    content_texts,
)
from gateway.protocols.openai_chat.usage import (
    ChatUsage,
    chat_usage,
    convert_openai_usage,
    laid_over,
)
from gateway.protocols.translate.capabilities import PLAIN, Capabilities
from gateway.protocols.translate.events import ChatEvents, Phase
from gateway.protocols.translate.think_tags import Kind, ThinkTags, think_tags

_DONE: Final = b"[DONE]"
_REPORTED: Final = UpstreamFault(
    fault=FaultClass.BROKEN_OFF, message="The upstream reported an error."
)


class ChatReader:
    """
    Calls `sink` for the chunks of one chat stream.

    Args:
        sink: Receives the chat events.
        caps: The upstream's capabilities.
    """

    __slots__ = (
        "_bound",
        "_caps",
        "_has_content",
        "_has_deltas",
        "_has_id",
        "_sink",
        "_tags",
        "_usage",
        "passed_text",
        "phase",
    )  # fmt: skip

    def __init__(self, sink: ChatEvents, caps: Capabilities = PLAIN) -> None:
        self.phase = Phase.WAITING
        self.passed_text = ""
        self._sink = sink
        self._caps = caps
        self._tags = think_tags(caps)
        self._bound = UNBOUNDED
        self._usage: Usage | None = None
        self._has_id = False
        self._has_deltas = False
        self._has_content = False

    def bound_usage(self, bound: UsageBound) -> None:
        """Ignore usage beyond `bound`."""
        self._bound = bound

    def usage(self) -> ChatUsage | None:
        """Return the last reported usage; counts of zero replace nothing."""
        return None if self._usage is None else chat_usage(self._usage)

    def end(self) -> None:
        """Complete the response."""
        self._end_tags()
        self._sink.end(self.usage())
        self.phase = Phase.DONE

    def skipped(self, text: bytes) -> None:
        """Note that text was translated without `take`; see `StreamReader`."""
        if text and self._tags is not None:
            self._tags.passed(msgspec.json.decode(b'"%b"' % text, type=str))

    def take(self, event: Event) -> UpstreamFault | None:
        """Read one event; return the fault that it reports, if any."""
        self.passed_text = ""
        data = event.data
        if len(data) < 16 and data.strip() == _DONE:
            if not self._has_content and self.phase is not Phase.FINISHED:
                return STREAM_EMPTY
            self.end()
            return None
        if event.event == b"error":
            return read_stream_fault(Wire.OPENAI, data)
        chunk = decode_chunk(data)
        if chunk is None:
            return None
        if chunk.error or (not chunk.choices and is_error_object(data)):
            return read_stream_fault(Wire.OPENAI, data)
        return self._take_chunk(chunk)

    def _take_chunk(self, chunk: Chunk) -> UpstreamFault | None:
        choice = chunk.first_choice
        usage = chunk.reported_usage
        if usage is not None:
            self._take_usage(usage)
        if self.phase is Phase.WAITING:
            # Azure begins with its filter's result for the prompt, without an id.
            if self._sink.needs_id and not chunk.id and choice is None and usage is None:
                return None
            # A role alone does not begin the response: another deployment can still be tried.
            if usage is None and (choice is None or _is_empty(choice)):
                return None
            self._begin(chunk.id)
        elif not self._has_id and chunk.id:
            self._has_id = True
            self._sink.identify(chunk.id)
        if choice is not None:
            fault = self._take_choice(choice)
            if fault is not None:
                return fault
            if usage is None and choice.delta is not None:
                self.passed_text = self._text_alone(choice.delta)
        if usage is not None and self.phase is Phase.FINISHED and _is_last(chunk):
            self.end()
        return None

    def _take_choice(self, choice: Choice) -> UpstreamFault | None:
        delta = choice.delta
        if delta is not None:
            self._has_deltas = True
        elif not self._has_deltas:
            delta = choice.message  # the whole message in one chunk
        if delta is not None:
            self._take_delta(delta)
        finish = plain_reason(choice.finish_reason)
        if finish in FAILED_REASONS:
            return RESOURCES_GONE if finish == "insufficient_system_resource" else _REPORTED
        if finish is not None:
            self._take_finish(finish, choice.stop_reason)
        return None

    def _text_alone(self, delta: Delta) -> str:
        tags = self._tags
        is_alone = not (
            delta.reasoning_content
            or delta.reasoning
            or delta.reasoning_details
            or delta.refusal
            or delta.tool_calls
            or delta.function_call
        )
        if is_alone and isinstance(delta.content, str) and (tags is None or tags.is_plain):
            return delta.content
        return ""

    def _begin(self, response_id: str | None) -> None:
        self.phase = Phase.STREAMING
        self._has_id = bool(response_id)
        self._sink.begin(response_id, self.usage())

    def _take_usage(self, usage: dict[str, object]) -> None:
        found = convert_openai_usage(usage, reasoning_apart=self._caps.reasoning_apart)
        if found is not None:
            self._has_content = True
        if found is not None and self._bound.allows(found):
            self._usage = found if self._usage is None else laid_over(found, self._usage)

    def _take_delta(self, delta: Delta) -> None:
        sink = self._sink
        content = delta.content
        reasoning = delta.reasoning_content or delta.reasoning
        if content is not None and not isinstance(content, str):
            content, parts = content_texts(content)
            reasoning = reasoning or parts
        if not self._has_content:
            self._has_content = bool(
                content or reasoning or delta.tool_calls or delta.function_call
            )
        if self._tags is not None:
            content = self._around_tags(self._tags, delta, content, reasoning)
        if reasoning:
            sink.reasoning(reasoning)
        if delta.reasoning_details:
            sink.reasoning_details(delta.reasoning_details, has_text=bool(reasoning))
        if content:
            self._take_text(content)
        if delta.refusal:
            sink.refusal(delta.refusal)
        if delta.tool_calls or delta.function_call is not None:
            for fragment in delta.calls:
                sink.tool_call(fragment)

    def _around_tags(
        self, tags: ThinkTags, delta: Delta, content: str | None, reasoning: str | None
    ) -> str | None:
        """Write held text that precedes the delta; return the content that remains."""
        if reasoning or delta.reasoning_details or delta.refusal:
            self._end_tags()  # the provider separates reasoning itself
        elif delta.tool_calls or delta.function_call:
            pieces = tags.feed(content or "")
            # White space before a call stays before it.
            self._put(pieces + tags.flush() if tags.undecided else pieces)
            return None
        return content

    def _take_text(self, text: str) -> None:
        tags = self._tags
        if tags is None:
            self._sink.text(text)
            return
        self._put(tags.feed(text))
        if tags.passes:
            self._tags = None

    def _put(self, pieces: list[tuple[Kind, str]]) -> None:
        sink = self._sink
        for kind, piece in pieces:
            if kind == "thinking":
                sink.reasoning(piece)
            else:
                sink.text(piece)

    def _end_tags(self) -> None:
        tags, self._tags = self._tags, None
        if tags is not None:
            self._put(tags.flush())

    def _take_finish(self, finish: str, stop: object) -> None:
        self.phase = Phase.FINISHED
        self._end_tags()
        self._sink.finish(finish, stop)


def _is_last(chunk: Chunk) -> bool:
    return all(named_reason(choice.finish_reason) is not None for choice in chunk.choices or ())


def _is_empty(choice: Choice) -> bool:
    """Return whether a choice has a role and empty text at most."""
    given = choice.delta if choice.delta is not None else choice.message
    if plain_reason(choice.finish_reason) is not None:
        return False
    return given is None or not any(getattr(given, name) for name in given.__struct_fields__)
