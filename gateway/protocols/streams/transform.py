"""What a relay puts a response through: a meter reads it, a transform changes it."""

from __future__ import annotations

from typing import Protocol


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
    def content_ended(self) -> bool:
        """As far as is known, only usage and the end mark are missing."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the upstream's body."""


class StreamTransform(Protocol):
    """Turns the upstream's bytes into the client's: hides an event, or translates."""

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes to write now, possibly none."""

    def end(self, clean: bool) -> bytes:
        """Take the end of the upstream's body; return the last bytes to write."""
