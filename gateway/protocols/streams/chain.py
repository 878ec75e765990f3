"""Two translators, one behind the other: an Anthropic stream to chat chunks to Responses events."""

from __future__ import annotations

from gateway.protocols.http.errors.upstream_faults import STREAM_CUT, UpstreamFault
from gateway.protocols.translate.stream import EarlyError, StreamTranslator


class ChainedTranslator:
    """
    Feeds what `first` writes to `second`; a `StreamTranslator` itself.

    Args:
        first: Gets the upstream's bytes.
        second: Writes the caller's.
    """

    __slots__ = ("_first", "_second")

    def __init__(self, first: StreamTranslator, second: StreamTranslator) -> None:
        self._first = first
        self._second = second

    def feed(self, chunk: bytes) -> bytes:
        """Return the caller's bytes for one network chunk."""
        middle = self._first.feed(chunk)
        return self._second.feed(middle) if middle else b""

    def end(self, clean: bool, fault: UpstreamFault = STREAM_CUT) -> bytes:
        """Return the caller's last bytes."""
        middle = self._first.end(clean, fault)
        head = self._second.feed(middle) if middle else b""
        return head + self._second.end(clean and not self._first.failed, fault)

    def expire_after_finish(self) -> bytes:
        """Return the end of a stream that went silent after its finish reason."""
        middle = self._first.expire_after_finish()
        head = self._second.feed(middle) if middle else b""
        return head + self._second.expire_after_finish()

    @property
    def started(self) -> bool:
        """The caller's first event was written."""
        return self._second.started

    @property
    def early_error(self) -> EarlyError | None:
        """An error before anything was written; chat and Responses have the same form."""
        return self._first.early_error or self._second.early_error

    @property
    def error_event(self) -> bytes:
        """The early error as the end of a stream whose head is out."""
        if self._first.early_error is not None:
            return self._second.feed(self._first.error_event) or self._second.error_event
        return self._second.error_event

    @property
    def finish_seen(self) -> bool:
        """Only usage and the end may be missing."""
        return self._first.finish_seen

    @property
    def done(self) -> bool:
        """Nothing more will be written."""
        return self._second.done

    @property
    def failed(self) -> bool:
        """The stream ended in an error."""
        return self._first.failed or self._second.failed
