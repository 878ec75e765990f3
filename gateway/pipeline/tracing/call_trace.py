"""
The trace of each call: its ids, the context that upstreams get, and what is exported at its end.

Nothing here runs for a chunk. A call that is not exported costs two random numbers and, for each
attempt, one header.
"""

from __future__ import annotations

import os
import random

import msgspec

from gateway.ports import Headers, UpstreamRequest
from gateway.protocols.http.trace_context import (
    TRACEPARENT,
    TRACESTATE,
    TraceParent,
    read_traceparent,
    read_tracestate,
    traceparent,
)

_IDS = 1 << 64
"""As OpenTelemetry does, the lower half of a trace id decides whether it is sampled."""


class CallTrace:
    """
    The trace of one call.

    Args:
        ids: Generates span ids.
        trace_id: Of the client's trace, or a new one.
        parent_id: The client's span.
        state: The client's `tracestate`.
        sampled: The flag that upstreams get.
        exported: A record of the call is exported.
        sends: Upstreams get the context.
    """

    __slots__ = (
        "_ids",
        "exported",
        "parent_id",
        "sampled",
        "sends",
        "span_id",
        "state",
        "trace_id",
    )

    def __init__(
        self,
        ids: random.Random,
        trace_id: str,
        parent_id: str | None = None,
        state: bytes = b"",
        *,
        sampled: bool = False,
        exported: bool = False,
        sends: bool = True,
    ) -> None:
        self._ids = ids
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.state = state
        self.sampled = sampled
        self.exported = exported
        self.sends = sends
        self.span_id = _span_id(ids) if exported else ""

    def begin_attempt(self, request: UpstreamRequest) -> tuple[UpstreamRequest, str]:
        """Return the request of an attempt with the context of a new span, and the span's id."""
        if not (self.sends or self.exported):
            return request, ""
        span_id = _span_id(self._ids)
        return self._with_context(request, span_id) if self.sends else request, span_id

    def _with_context(self, request: UpstreamRequest, span_id: str) -> UpstreamRequest:
        added = [(TRACEPARENT, traceparent(self.trace_id, span_id, sampled=self.sampled))]
        if self.state:
            added.append((TRACESTATE, self.state))
        head = request.head
        if head:
            head += b"".join([b"%b: %b\r\n" % header for header in added])
        return msgspec.structs.replace(request, headers=(*request.headers, *added), head=head)


class Tracer:
    """
    Begins the traces of one worker's calls.

    Args:
        sample_ratio: Share of the traces that is exported; None: none, there is no collector.
        follows_clients: A client's own decision counts instead, if it sends one.
        sends: Upstreams get the context.
    """

    def __init__(
        self,
        sample_ratio: float | None = None,
        *,
        follows_clients: bool = True,
        sends: bool = True,
    ) -> None:
        self._threshold = round((sample_ratio or 0.0) * _IDS)
        self._exports = sample_ratio is not None
        self._follows_clients = follows_clients
        self._sends = sends
        self._ids = random.Random(os.urandom(32))  # noqa: S311 (ids, not secrets)

    def begin(self, headers: Headers) -> CallTrace:
        """Return the trace of a new call: the one that its headers name, or a new one."""
        parents = [value for name, value in headers if name == TRACEPARENT]
        parent = read_traceparent(parents) if parents else None
        if parent is not None:
            return self._continued(parent, headers)
        bits = self._ids.getrandbits(128) or 1
        exported = self._exports and self._is_sampled(bits)
        return CallTrace(
            self._ids, f"{bits:032x}", sampled=exported, exported=exported, sends=self._sends
        )

    def _continued(self, parent: TraceParent, headers: Headers) -> CallTrace:
        sampled = parent.sampled
        if self._exports and not self._follows_clients:
            sampled = self._is_sampled(int(parent.trace_id, 16))
        state = read_tracestate([value for name, value in headers if name == TRACESTATE])
        return CallTrace(
            self._ids,
            parent.trace_id,
            parent.span_id,
            state,
            sampled=sampled,
            exported=self._exports and sampled,
            sends=self._sends,
        )

    def _is_sampled(self, bits: int) -> bool:
        return bits % _IDS < self._threshold


def _span_id(ids: random.Random) -> str:
    return f"{ids.getrandbits(64) or 1:016x}"
