"""What a relay puts a response through: a meter reads it, a transform changes it."""

from __future__ import annotations

from typing import Protocol

from gateway.protocols.http.errors.upstream_errors import EarlyError
from gateway.protocols.http.errors.upstream_faults import STREAM_CUT, UpstreamFault


class Meter(Protocol):
    """Reads a response without changing it."""

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped; None while it is running."""

    @property
    def contents(self) -> int:
        """Number of reads that brought content."""

    @property
    def saw_end(self) -> bool:
        """The end mark came."""

    @property
    def failed(self) -> bool:
        """The upstream reported an error."""

    @property
    def reported(self) -> bool:
        """Usage that can be billed came."""

    @property
    def restarted(self) -> bool:
        """A second response began before the first had ended."""

    @property
    def content_ended(self) -> bool:
        """As far as is known, only usage and the end mark are missing."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the upstream's body."""


class StreamTransform(Protocol):
    """
    Turns the upstream's bytes into the client's, for one response.

    The methods return the bytes to write now, possibly none. They raise nothing for what an
    upstream sends.
    """

    @property
    def keepalive(self) -> bytes:
        """An event or comment that clients ignore, for silences; nothing for a whole response."""

    @property
    def early_error(self) -> EarlyError | None:
        """An error before anything was written; an HTTP error unless the head was sent."""

    @property
    def error_event(self) -> bytes:
        """The early error as the end of a stream whose head was sent."""

    @property
    def failed(self) -> bool:
        """The client's stream ended in an error that the transform wrote."""

    @property
    def done(self) -> bool:
        """The client's stream is complete: the rest of the upstream's is discarded."""

    def feed(self, chunk: bytes) -> bytes:
        """Take one network read."""

    def release(self) -> bytes:
        """Send what is held: the response head is sent although no event has come."""

    def expire_after_finish(self) -> bytes:
        """Complete a stream that is silent after its finish reason."""

    def end(self, clean: bool, fault: UpstreamFault = STREAM_CUT) -> bytes:
        """
        Take the end of the upstream's body.

        Args:
            clean: False if it broke off or is incomplete.
            fault: The error for the client if the response is not complete.
        """
