"""Replaces errors about the operator's account inside relayed streams by fixed messages."""

from __future__ import annotations

import re
from typing import Final

from gateway.core.model import Usage, Wire
from gateway.protocols.codec.event_filter import BLANK_LINE, decoded_event
from gateway.protocols.http.errors.account_words import without_account_ids
from gateway.protocols.http.errors.upstream_errors import own_stream_error
from gateway.protocols.http.errors.upstream_faults import read_stream_fault
from gateway.protocols.streams.response_fields import read_anthropic_event, read_openai_chunk

MARK: Final = b"error"
"""Bytes in every error; searching for them is the only cost of other events."""
_MAY_FAIL: Final = re.compile(
    rb'"error"\s*:(?!\s*null)|"(?:type|object)"\s*:\s*"error"|^(?:event:\s*)?error\b', re.MULTILINE
)
_BEGINNINGS: Final = (
    b'data:{"error"', b'data:{"type":"error"', b'data:{"object":"error"', b"event:error", b"error:",
)  # fmt: skip
"""Of events without spaces."""
_HELD_BYTES: Final = 16 * 1024
_BLANK_BYTES: Final = 4
"""Bytes of the longest blank line with the line end before it."""


class ErrorEvents:
    """
    Forwards an OpenAI-wire stream at once, except for the beginning of what may be an error.

    Such an event is held back until it is complete, since an error is replaced as a whole; at most
    16 KiB are held. An error is not recognised if another member precedes it in its event and a
    chunk ends inside that member.
    """

    __slots__ = ("_held", "_inside", "_last")

    def __init__(self) -> None:
        self._held = b""
        # Whether the forwarded bytes end inside an event; if so, the last of them.
        self._inside = False
        self._last = b""

    @property
    def idle(self) -> bool:
        """Whether nothing is held and everything before was forwarded."""
        return not (self._held or self._inside)

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes for the client from `chunk` and from held bytes; may be empty."""
        whole = self._held + chunk
        end = _last_event_end(self._last + whole) - len(self._last)
        if end <= 0 and self._inside:
            self._last = (self._last + whole)[-_BLANK_BYTES + 1 :]
            return whole
        tail = whole[max(end, 0) :]
        if tail and len(tail) <= _HELD_BYTES and may_be_error(tail):
            self._held, self._inside = tail, False
            shown = whole[: -len(tail)]
        else:
            self._held, self._inside = b"", bool(tail.strip(b"\r\n"))
            shown = whole
        self._last = tail[-_BLANK_BYTES + 1 :] if self._inside else b""
        return shown

    def end(self, clean: bool = True) -> bytes:
        """Return the unfinished event at the end; nothing if the stream was cut off."""
        rest, self._held = self._held, b""
        return rest if clean else b""


def may_be_error(tail: bytes) -> bool:
    """Return whether the beginning of an event can be that of an error."""
    tail = tail.lstrip(b"\r\n")
    if not tail:
        return False
    start = tail[:64].translate(None, b" \t")
    begins = any(start.startswith(each) or each.startswith(start) for each in _BEGINNINGS)
    return begins or _MAY_FAIL.search(tail) is not None


def _last_event_end(data: bytes) -> int:
    """Return where the last complete event ends; 0: none does."""
    if b"\r" not in data:
        return data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
    end = 0
    for blank in BLANK_LINE.finditer(data):
        end = blank.end()
    return end


def with_own_errors(events: bytes, wire: Wire, model: str, *, is_end: bool = False) -> bytes:
    """
    Return events of a committed stream in which no error tells about the operator's account.

    Args:
        events: What is about to be sent to the client.
        wire: The dialect of both sides.
        model: The model's name as the client sent it.
        is_end: The stream ends with them: the last event may lack its blank line. Otherwise an
            incomplete event at the end is left as it is.
    """
    if _MAY_FAIL.search(events) is None:
        return events
    shown: list[bytes] = []
    at = 0
    for blank in BLANK_LINE.finditer(events):
        shown.append(_shown(events[at : blank.end()], wire, model))
        at = blank.end()
    rest = events[at:]
    shown.append(_shown(rest, wire, model) if is_end else rest)
    return b"".join(shown)


def _shown(event: bytes, wire: Wire, model: str) -> bytes:
    decoded = decoded_event(event) if _MAY_FAIL.search(event) is not None else None
    if decoded is None:
        return event
    if decoded.event != b"error":
        found = (
            read_openai_chunk(decoded.data)
            if wire is Wire.OPENAI
            else read_anthropic_event(decoded.data, Usage())
        )
        if found is None or not found.failed:
            return event
    own = own_stream_error(read_stream_fault(wire, decoded.data), wire, model)
    return without_account_ids(event) if own is None else own
