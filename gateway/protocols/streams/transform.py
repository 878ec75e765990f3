"""What an answer passes on its way through a relay: who reads it, and who changes it."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Reads what passes by and changes nothing."""

    @property
    def finish_reason(self) -> str | None:
        """Why the model ended; None while it goes on."""

    @property
    def contents(self) -> int:
        """How often content was seen; grows with every read that brought some."""

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
        """As far as it can be known, nothing but usage and the end may be missing."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the upstream's body."""


class StreamTransform(Protocol):
    """Turns the upstream's bytes into the caller's: hides an event, or translates."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what goes to the caller now, possibly nothing."""

    def end(self, clean: bool) -> bytes:
        """Take the end of the upstream's body; return what is still to go out."""
