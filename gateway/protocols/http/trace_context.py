"""
W3C Trace Context: reads and writes the headers `traceparent` and `tracestate`.

See https://www.w3.org/TR/trace-context/. Anything that is not valid is ignored, as if the header
were absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
MAX_STATE_BYTES: Final = 512
MAX_STATE_MEMBERS: Final = 32
SAMPLED: Final = 1
_MAX_PARENT_BYTES: Final = 256

# Version ff is invalid, and so are ids of zeros. Later versions may append fields.
_PARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z"
)
_MEMBER: Final = re.compile(
    rb"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]\Z"
)


class TraceParent(NamedTuple):
    """The trace, the parent span and the sampling decision that a client sends."""

    trace_id: str
    span_id: str
    sampled: bool


def read_traceparent(values: Sequence[bytes]) -> TraceParent | None:
    """Return the parent in a request's `traceparent`; None if missing, repeated or invalid."""
    if len(values) != 1 or len(values[0]) > _MAX_PARENT_BYTES:
        return None
    found = _PARENT.match(values[0].strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"00" and rest is not None:
        return None
    return TraceParent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & SAMPLED))


def read_tracestate(values: Iterable[bytes]) -> bytes:
    """
    Return the `tracestate` to forward; empty: there is none, or it is not valid.

    Beyond the bounds, whole members are dropped from the right, which are the oldest.
    """
    members: list[bytes] = []
    size = -1
    for part in b",".join(values).split(b","):
        member = part.strip(b" \t")
        if not member:
            continue
        if not _MEMBER.match(member):
            return b""
        size += 1 + len(member)
        if size > MAX_STATE_BYTES or len(members) == MAX_STATE_MEMBERS:
            break
        members.append(member)
    return b",".join(members)


def traceparent(trace_id: str, span_id: str, *, sampled: bool) -> bytes:
    """Return the value of the header for a request whose parent is `span_id`."""
    return f"00-{trace_id}-{span_id}-0{int(sampled)}".encode()
