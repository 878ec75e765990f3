"""
What every translator is given and hands back.

A translator is made for one call, on one route. It is pure: nothing in here tells the time, draws,
or does I/O; ids and dates that an answer must invent are passed in.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from gateway.protocols.http.errors.upstream_faults import STREAM_CUT, UpstreamFault
from gateway.protocols.translate.capabilities import Capabilities


class TranslationRoute(msgspec.Struct, frozen=True):
    """The upstream side of one translation."""

    upstream_model: str
    """The name the upstream knows the model by."""
    caps: Capabilities
    max_output: int | None = None
    """The model's output limit in tokens, from the catalogue; `caps.max_output_tokens` wins."""

    @property
    def output_limit(self) -> int | None:
        """Tokens that may be asked for at most; None: no limit is known."""
        return self.caps.max_output_tokens or self.max_output


class ResponseContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer's translation must know of the request."""

    model: str
    """The model's name as the client sent it: every body, chunk and error repeats it."""
    tool_names: dict[str, str] = {}
    """Shortened tool name -> the client's own; only names that had to change."""
    history_ids: frozenset[str] = frozenset()
    """Tool-call ids the client's history already uses: a new call must not repeat one."""
    stop_sequences: tuple[str, ...] = ()
    include_usage: bool = False
    """An OpenAI client asked for a usage chunk (`stream_options.include_usage`)."""
    stream: bool = False
    created: int = 0
    """Unix seconds for OpenAI's `created`; the caller sets it, `TranslatedRequest` leaves it 0."""
    input_estimate: int = 0
    """
    Input tokens that `message_start` names while the upstream has not counted yet; 0: unknown.

    Agents show the context's size from it. The counts at the end are the upstream's.
    """


class TranslatedRequest(msgspec.Struct, frozen=True):
    """A request for the upstream. The same history gives the same bytes."""

    body: bytes
    dropped: tuple[str, ...]
    """Fields that were left out and may be missed, in a fixed order, each once."""
    context: ResponseContext


class EarlyError(msgspec.Struct, frozen=True):
    """An upstream failure met before anything was sent: a real HTTP answer is still possible."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    """Only those the error brings along (`x-should-retry`); no content-type, no length."""
    body: bytes
    """Complete, in the client's dialect, without the gateway's request id."""
    fault: UpstreamFault | None = None
    """What the upstream said, for the decision whether another deployment may be tried."""


class StreamTranslator(Protocol):
    """
    Turns the upstream's stream into the client's, one network chunk at a time.

    Used by one call. `feed` and `end` return what to write now, `b""` when there is nothing.
    Nothing is raised: what the upstream does wrong becomes an error in the client's dialect.
    Before `started` an error is not emitted but kept in `early_error`.
    """

    def feed(self, chunk: bytes) -> bytes:
        """Take one network chunk, split anywhere, and return the client's bytes for it."""

    def end(self, clean: bool, fault: UpstreamFault = STREAM_CUT) -> bytes:
        """
        Take the end of the upstream's body and return the client's last bytes.

        Args:
            clean: False when the body broke off. A second call returns `b""`.
            fault: What the client is told if the answer is not complete.
        """

    def expire_after_finish(self) -> bytes:
        """
        Finalise a stream that went silent.

        For the caller's timer: call it 5 s after the last byte if `finish_seen` and not `done`.
        Returns `b""` if the upstream has named no finish reason.
        """

    @property
    def started(self) -> bool:
        """The first event has been translated: the response head may be sent (status 200)."""

    @property
    def early_error(self) -> EarlyError | None:
        """An error before anything was emitted; to be sent as an HTTP error unless committed."""

    @property
    def error_event(self) -> bytes:
        """
        The early error as an event of the client's dialect; `b""` without one.

        For a stream whose head was already sent while only comments had come.
        """

    @property
    def finish_seen(self) -> bool:
        """The upstream has named a finish reason; only usage and the end may be missing."""

    @property
    def done(self) -> bool:
        """Finalised or failed: nothing more will be written, the rest is read and thrown away."""

    @property
    def failed(self) -> bool:
        """The stream ended in an error, early or in-band."""
