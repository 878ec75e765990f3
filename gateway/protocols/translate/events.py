"""
The events of a streamed response between its reader and its writer.

An event is a method call, so that nothing is allocated for a piece of text. There is a reader for
each upstream wire and a writer for each client wire, and any reader can be combined with any
writer.
"""

from __future__ import annotations

import enum
from typing import Protocol

from gateway.core.model import Wire
from gateway.protocols.codec.sse import Event
from gateway.protocols.codec.usage_bound import UsageBound
from gateway.protocols.http.errors.upstream_faults import UpstreamFault
from gateway.protocols.openai_chat.response import CallFragment
from gateway.protocols.openai_chat.usage import ChatUsage


class Phase(enum.Enum):
    """The progress of a stream."""

    WAITING = enum.auto()
    """Nothing has been written: an error may still become an HTTP response."""
    STREAMING = enum.auto()
    FINISHED = enum.auto()
    """A finish reason was received: usage, late deltas or the end may follow."""
    DONE = enum.auto()
    """Completed or failed: nothing more is written."""


class ChatEvents(Protocol):
    """
    Receives the events of one response: `begin` first, `end` last unless the stream fails.

    Strings are never empty. Text, reasoning, refusal and tool arguments may end with half a
    surrogate pair.
    """

    needs_id: bool
    """Chunks with neither id nor content do not begin the response."""

    def begin(self, response_id: str | None, usage: ChatUsage | None) -> None:
        """Begin the response; `response_id` in the form of chat completions."""

    def identify(self, response_id: str) -> None:
        """Set the id of a response that began without one."""

    def text(self, text: str) -> None:
        """Add text."""

    def reasoning(self, text: str) -> None:
        """Add reasoning."""

    def reasoning_details(self, details: list[dict[str, object]], *, has_text: bool) -> None:
        """Add entries of `reasoning_details`; `has_text`: `reasoning` already got their text."""

    def refusal(self, text: str) -> None:
        """Add text of a refusal."""

    def tool_call(self, fragment: CallFragment) -> None:
        """Add a piece of a tool call."""

    def ping(self) -> None:
        """Show that the upstream is alive."""

    def finish(self, reason: str | None, stop: object) -> None:
        """Set the finish reason, as in chat completions, and the stop string that vLLM reports."""

    def end(self, usage: ChatUsage | None) -> None:
        """Complete the response."""


class StreamWriter(ChatEvents, Protocol):
    """Writes the events of one response for a client."""

    wire: Wire
    """The dialect of errors."""
    model: str
    """The model's name as the client sent it."""
    repeats_text: bool
    """A piece of text after another changes no state: equal pieces are written as equal bytes."""

    def error(self, fault: UpstreamFault, usage: ChatUsage | None) -> None:
        """Write the error that ends the stream, after the beginning if that is missing."""

    def take(self) -> bytes:
        """Return everything written since the last call."""


class StreamReader(Protocol):
    """Reads an upstream's stream and calls a `ChatEvents`."""

    phase: Phase
    passed_text: str
    """Text of the last event if it had nothing else and any next text without `<` is read in the
    same way; otherwise empty."""

    def skipped(self, text: bytes) -> None:
        """
        Note that text was translated without `take`.

        Args:
            text: The last such text, escaped as in JSON; empty if there was none.
        """

    def take(self, event: Event) -> UpstreamFault | None:
        """
        Read one event; return the fault that it reports, if any.

        Raises:
            GatewayError: UPSTREAM_MALFORMED.
        """

    def end(self) -> None:
        """Complete the response."""

    def bound_usage(self, bound: UsageBound) -> None:
        """Ignore usage beyond `bound`."""

    def usage(self) -> ChatUsage | None:
        """Return the usage reported so far."""
