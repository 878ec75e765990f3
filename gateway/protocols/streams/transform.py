"""The interfaces of a relay: a meter reads a response, a transform changes it."""

from __future__ import annotations

from typing import Protocol

from gateway.protocols.http.errors.upstream_errors import ErrorBeforeCommit
from gateway.protocols.http.errors.upstream_faults import STREAM_CUT, UpstreamFault


class Meter(Protocol):
    """Reads a response without changing it."""

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped; None while it is running."""

    @property
    def contents(self) -> int:
        """Number of reads with content."""

    @property
    def saw_end(self) -> bool:
        """Whether the end mark was received."""

    @property
    def failed(self) -> bool:
        """Whether the upstream reported an error."""

    @property
    def reported(self) -> bool:
        """Whether usage was reported that can be billed."""

    @property
    def restarted(self) -> bool:
        """Whether a second response began before the first had ended."""

    @property
    def content_ended(self) -> bool:
        """Whether, as far as is known, only usage and the end mark are missing."""

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the upstream's body."""


class StreamTransform(Protocol):
    """
    Turns the upstream's bytes into the client's, for one response.

    The methods return the bytes to write now, possibly none. They raise for nothing that an
    upstream may send.
    """

    @property
    def keepalive(self) -> bytes:
        """An event or comment that clients ignore, sent in silences; empty for a whole response."""

    @property
    def error_before_commit(self) -> ErrorBeforeCommit | None:
        """An error before anything was written, for an HTTP error unless the head was sent."""

    @property
    def error_event(self) -> bytes:
        """The early error as the end of a stream whose head was sent."""

    @property
    def failed(self) -> bool:
        """Whether the transform ended the client's stream with an error."""

    @property
    def done(self) -> bool:
        """Whether the client's stream is complete; the rest of the upstream's is discarded."""

    def wrote_end(self, upstream_ended: bool) -> bool:
        """Return whether the last event was returned; `upstream_ended`: the upstream's was fed."""

    def feed(self, chunk: bytes) -> bytes:
        """Transform one network read."""

    def release(self) -> bytes:
        """Return the held bytes: the response head is sent although no event has arrived."""

    def expire_after_finish(self) -> bytes:
        """Complete a stream that is silent after its finish reason."""

    def end(self, clean: bool, fault: UpstreamFault = STREAM_CUT) -> bytes:
        """
        Handle the end of the upstream's body.

        Args:
            clean: False if it was cut off or is incomplete.
            fault: The error for the client if the response is not complete.
        """
