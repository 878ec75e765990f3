"""
The relay: forwards every upstream read to the client at once, and meters it.

Theory. The transport pushes each network read into `Relay.body_chunk` from its `data_received`; the
relay writes it to the client in the same turn of the loop. No task, no queue. When the client is
slow the write does not finish at once: reading the upstream is paused, one task finishes the write,
reading resumes. So a stream holds at most one network read, the client's four chunks in Granian and
the kernel's buffers, however slow the client is.

Rules.
1. Forward first, meter after.
2. The head is committed with the first bytes for the client, or `COMMIT_S` after the upstream's
   head; until then a failure can still become an HTTP error or another attempt.
3. Exactly one result: `done` holds None, or the error that ended the stream; an internal error is
   its exception. The owner that awaits `done` closes the response; the relay never writes after it.
4. Everything received before the end is written before `done` is set, however slow the client is.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from gateway.core.model import Clocks
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Attempt, Call
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.client.writer import ClientWriter, HoldingWriter, ResponseHead
from gateway.pipeline.departure import DRAIN_BYTES, DRAIN_S
from gateway.pipeline.response.clocks import (
    SILENT_FINISH_S,
    ClientClocks,
    Expire,
    Step,
    StreamClocks,
)
from gateway.ports import UpstreamResponse
from gateway.protocols.codec.event_filter import at_event_boundary
from gateway.protocols.http.errors.response_faults import MALFORMED_RESPONSE
from gateway.protocols.http.errors.upstream_errors import ErrorBeforeCommit
from gateway.protocols.http.errors.upstream_faults import (
    STREAM_EMPTY,
    STREAM_MALFORMED,
    error_kind,
    log_detail,
)
from gateway.protocols.streams.relayed import Unchanged
from gateway.protocols.streams.transform import Meter, StreamTransform


class UpstreamErrorBeforeCommit(GatewayError):  # noqa: N818 - a state of the stream
    """A stream began with an error; `response` is the client's error response."""

    def __init__(self, response: ErrorBeforeCommit) -> None:
        kind = error_kind(response.fault) if response.fault else ErrorKind.UPSTREAM_REFUSED
        if response.fault in (MALFORMED_RESPONSE, STREAM_EMPTY):
            kind = ErrorKind.UPSTREAM_MALFORMED
        detail = log_detail(response.fault) if response.fault else None
        super().__init__(kind, "The upstream began with an error.", detail=detail)
        self.response = response


_NOTHING = Unchanged()


class Relay:
    """
    One response on its way from an upstream to a client.

    It is the upstream's `ports.BodySink` and its `writer`'s `FlowControl`.

    Args:
        call: The call that is responded to.
        attempt: Receives the times of content.
        channel: The client.
        response: The upstream; paused while the client is slow.
        meter: Reads the upstream's bytes.
        transform: Converts the upstream's bytes to the client's.
        head: The client's response head.
        clocks: The limits on the client's side.
    """

    __slots__ = (
        "_attempt",
        "_call",
        "_channel",
        "_end_error",
        "_ending",
        "_is_ending",
        "_is_last_written",
        "_keepalive_s",
        "_last_read_at",
        "_last_write_at",
        "_meter",
        "_opened_at",
        "_read_on_bytes",
        "_read_on_error",
        "_read_on_until",
        "_response",
        "_resumed_at",
        "_transform",
        "done",
        "sent_whole",
        "writer",
    )

    def __init__(
        self,
        call: Call,
        attempt: Attempt,
        channel: ClientChannel,
        response: UpstreamResponse,
        meter: Meter,
        transform: StreamTransform,
        *,
        head: ResponseHead,
        clocks: ClientClocks,
    ) -> None:
        self._call = call
        self._attempt = attempt
        self._response = response
        self._meter = meter
        self._transform = transform
        self._keepalive_s = clocks.keepalive_s if transform.keepalive else 0.0
        self._opened_at = self._last_read_at = self._last_write_at = monotonic()
        self._resumed_at = 0.0
        # After the client left: how long and how far the upstream is read, and the call's error.
        self._read_on_until: float | None = None
        self._read_on_bytes = 0
        self._read_on_error: GatewayError | None = None
        # The client left when the last bytes of a whole response may have been written.
        self._is_last_written = False
        self.sent_whole = False
        """Whether the client left with the whole response: it need not wait for the body's end."""
        # The body ended while a write was waiting for the client.
        self._is_ending = False
        self._end_error: GatewayError | None = None
        # Why the stream ends at the next event boundary.
        self._ending: GatewayError | None = None
        writer = HoldingWriter if channel.holds and call.stream else ClientWriter
        self.writer = writer(channel, head, clocks.stall_s, self)
        self._channel = channel
        self.done: asyncio.Future[GatewayError | None] = asyncio.get_running_loop().create_future()

    # `ports.BodySink`, from the transport's data_received.

    def body_chunk(self, chunk: bytes) -> None:
        """Forward one network read, then meter it."""
        if self.done.done():
            return
        meter = self._meter
        out = b""
        try:
            if self._read_on_until is not None:
                self._count_read_on(chunk)
            else:
                out = self._transform.feed(chunk)
                if out:
                    self.writer.write(out)
                else:
                    self._check_error_before_commit()
            seen = meter.contents
            meter.feed(chunk)
        except Exception as error:  # noqa: BLE001 # ends this call; the connection is not to blame
            self.write_failed(error)
            return
        if meter.restarted:
            self._finish(GatewayError(ErrorKind.UPSTREAM_MALFORMED, STREAM_MALFORMED.message))
            return
        self._last_read_at = now = monotonic()
        if out:
            self._last_write_at = now
        if meter.contents != seen:
            attempt = self._attempt
            attempt.last_content_at = now
            attempt.content_count += 1
            if attempt.first_content_at is None:
                attempt.first_content_at = now
                self._release()

    def body_end(self) -> None:
        """End the response: the upstream's body is complete."""
        self._finish(None)

    def body_failed(self, error: GatewayError) -> None:
        """End the response with an error: the upstream's body was cut off."""
        self._finish(error)

    # `FlowControl`, from the writer.

    def pause_writing(self) -> None:
        self._response.pause()

    def resume_writing(self) -> None:
        """Continue after a slow write: end if the body has ended, otherwise resume reading."""
        if self._is_ending:
            self._finish(self._end_error)
            return
        self._resumed_at = self._last_read_at = self._last_write_at = monotonic()
        self._response.resume()

    def write_stalled(self, error: GatewayError) -> None:
        """End the call as if the client had left."""
        self._depart(error, was_writing=True)

    def write_failed(self, error: Exception) -> None:
        """End with an internal error."""
        if not self.done.done():
            self.done.set_exception(error)

    async def aclose(self) -> None:
        """Relay nothing more, and wait for the write in progress; `writer` may still be used."""
        self._transform = _NOTHING  # its callback may refer to this relay
        await self.writer.aclose()

    # Other ends of a relay.

    def client_left(self) -> None:
        """Write nothing more; further reads are only metered."""
        was_writing = self.writer.discard()
        error = GatewayError(ErrorKind.CLIENT_GONE, "The client left.")
        self._depart(error, was_writing=was_writing)

    def stop(self, error: GatewayError) -> None:
        """End now, whatever is in progress."""
        if not self.done.done():
            self.done.set_result(error)

    def end(self, error: GatewayError) -> None:
        """End with `error` where an event may follow what was written: now, or at a check."""
        if self._read_on_error is not None:
            self.stop(self._read_on_error)
        elif self.writer.busy or not at_event_boundary(*self.writer.tail):
            self._ending = error
        else:
            self._finish(error)

    def check(self, now: float, limits: Clocks) -> None:
        """Perform what is due at `now`; called a few times per second."""
        if self.done.done():
            return
        if self._ending is not None:
            self.end(self._ending)
        try:
            self._carry_out(self._clocks(limits).decide(now), now)
        except Exception as error:  # noqa: BLE001 # as in `body_chunk`
            self.write_failed(error)

    @property
    def read_on(self) -> bool:
        """Whether the upstream was still read after the client had left."""
        return self._read_on_until is not None

    def _depart(self, error: GatewayError, *, was_writing: bool) -> None:
        """End with `error`, at once or after reading the usage report."""
        if self._read_on_error is not None:
            return
        if not was_writing and self._wrote_end():
            self.sent_whole = True
            if self._meter.reported or not self._call.stream:
                self._finish(None)
                return  # else the usage may still come, as for a client that stays
        is_whole = not (was_writing or self._call.stream) and self.writer.committed
        self._is_last_written = is_whole and self._response.complete
        reads_on = self._call.reads_on or self._is_last_written
        if not reads_on and not self._meter.content_ended:
            self.stop(error)
            return
        self._read_on_error = error
        self._read_on_until = monotonic() + (DRAIN_S if reads_on else SILENT_FINISH_S)
        self.writer.discard()
        if was_writing:
            self.resume_writing()

    def _wrote_end(self) -> bool:
        """Return whether the last event of a stream, or all of another response, was written."""
        if not self._call.stream:
            done = self.done
            return done.done() and done.exception() is None and done.result() is None
        return self.writer.committed and self._transform.wrote_end(self._meter.saw_end)

    def _count_read_on(self, chunk: bytes) -> None:
        self._read_on_bytes += len(chunk)
        if self._read_on_bytes > DRAIN_BYTES and self._read_on_error is not None:
            self.stop(self._read_on_error)

    def _clocks(self, limits: Clocks) -> StreamClocks:
        call, attempt = self._call, self._attempt
        meter, transform = self._meter, self._transform
        is_translated = transform.done
        is_named = meter.finish_reason is not None or meter.saw_end or meter.failed
        return StreamClocks(
            limits=limits,
            sent_at=attempt.sent_at,
            opened_at=self._opened_at,
            last_content_at=attempt.last_content_at,
            last_read_at=self._last_read_at,
            last_write_at=self._last_write_at,
            resumed_at=self._resumed_at,
            stream=call.stream,
            committed=self.writer.committed,
            writing=self.writer.busy,
            keepalive_s=self._keepalive_s,
            finished=is_named or is_translated,
            ended=meter.saw_end or is_translated,
            read_on_until=self._read_on_until,
            billable=meter.content_ended and meter.reported,
        )

    def _carry_out(self, decision: Step | Expire, now: float) -> None:
        if isinstance(decision, Expire):
            self._finish(decision.error)
        elif decision is Step.COMMIT:
            self._commit(now)
        elif decision is Step.PING:
            self._ping()
        elif decision is Step.FINISH:
            if self._read_on_until is None:
                self._write(self._transform.expire_after_finish())
            self._finish(None)
        elif decision is Step.STOP and self._read_on_error is not None:
            self.stop(self._read_on_error)

    def _release(self) -> None:
        """Start a stream that had to wait for its first content."""
        try:
            self.writer.release()
        except Exception as error:  # noqa: BLE001 # as in `body_chunk`
            self.write_failed(error)

    def _commit(self, now: float) -> None:
        """Send the head and held bytes although no event has arrived."""
        if not self._channel.may_start(now):
            return
        self.writer.commit()
        held = self._transform.release()
        if held:
            self._write(held)
            self._last_write_at = monotonic()
        elif self._keepalive_s:
            self._ping()

    def _ping(self) -> None:
        """Send a keep-alive, unless the last event is incomplete; the next check tries again."""
        if at_event_boundary(*self.writer.tail):
            self._write(self._transform.keepalive)
            self._last_write_at = monotonic()

    def _check_error_before_commit(self) -> None:
        """End with an error at the stream's start: as HTTP error, or event if the head is sent."""
        early = self._transform.error_before_commit
        if early is None:
            return
        if self.writer.committed:
            self._finish(None)
        else:
            self.stop(UpstreamErrorBeforeCommit(early))

    def _write(self, out: bytes) -> None:
        if out:
            self.writer.write(out)

    def _finish(self, error: GatewayError | None) -> None:
        """End once everything received is written."""
        departure = self._read_on_error
        if self._is_last_written and error is None and not self._read_on_bytes:
            self.sent_whole = True  # only the end of the body was still to come
        if departure is not None and departure.kind is ErrorKind.SLOW_CLIENT:
            error = departure
        if not self.writer.busy:
            if not self.done.done():
                self.done.set_result(error)
        elif not self._is_ending:
            self._is_ending = True
            self._end_error = error
