"""Records that workers send to the trace exporter, one for each exported call."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.model import CallRecord, Usage


class AttemptTrace(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request to an upstream; times are Unix nanoseconds."""

    span_id: str
    provider: str
    dialect: str
    upstream_model: str
    wire: str
    started_ns: int
    ended_ns: int
    status: int = 0
    """0: there was no response."""
    error: str | None = None
    usage: Usage = Usage()
    finish_reason: str | None = None
    upstream_request_id: str | None = None
    first_content_ns: int | None = None


class CallTraceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call with its attempts; times are Unix nanoseconds. Contains no key and no content."""

    trace_id: str
    span_id: str
    started_ns: int
    ended_ns: int
    record: CallRecord
    attempts: tuple[AttemptTrace, ...] = ()
    parent_id: str | None = None
    state: str = ""


ENCODER: Final = msgspec.msgpack.Encoder()
DECODER: Final = msgspec.msgpack.Decoder(list[CallTraceRecord])
