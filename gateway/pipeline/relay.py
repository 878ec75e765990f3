"""
The pump: every upstream read goes straight to the caller, metered on the way.

Theory. The transport pushes each network read into `Relay.body_chunk` from its `data_received`; the
relay writes it to the caller in the same turn of the loop. No task, no queue. When the caller is
slow the write does not finish at once: reading the upstream is paused, one task finishes the write,
reading resumes. So a stream holds at most one network read, the caller's four chunks in Granian and
the kernel's buffers, however slow the caller is.

Rules.
1. Forward first, meter after.
2. The head is committed with the first bytes for the caller, or `COMMIT_S` after the upstream's
   head; until then a failure can still become an HTTP error or another attempt.
3. Exactly one result: `done` holds None, or the error that ended the stream; a mistake of ours is
   its exception. Whoever awaits `done` closes the response; the relay never writes after it.
4. What came before the end is written before the end is told, however slow the caller is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import monotonic

from gateway.core.model import Clocks, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.channel import ClientChannel
from gateway.pipeline.departure import DRAIN_BYTES, DRAIN_S
from gateway.pipeline.stages import Meter, StreamTransform
from gateway.ports import Headers, UpstreamResponse
from gateway.protocols.http.errors.upstream_errors import translate_error
from gateway.protocols.http.errors.upstream_faults import error_kind, read_stream_fault
from gateway.protocols.streams.first_event import FirstEventGate
from gateway.protocols.translate.stream import EarlyError, StreamTranslator

COMMIT_S = 10.0
SILENT_FINISH_S = 5.0
"""After the finish reason: how long usage and the end mark may still take."""
SILENT_END_S = 1.0
"""After the end mark, or the translation's end: how long the connection may still take."""
PING_S = 15.0
"""A translated stream that has nothing to say for so long gets a ping."""


_PINGS = {
    Wire.ANTHROPIC: b'event: ping\ndata: {"type":"ping"}\n\n',
    Wire.OPENAI: b": ping\n\n",
}


class EarlyUpstreamError(GatewayError):
    """A stream began with an error: `answer` is a whole HTTP answer in the caller's dialect."""

    def __init__(self, answer: EarlyError) -> None:
        kind = error_kind(answer.fault) if answer.fault else ErrorKind.UPSTREAM_REFUSED
        super().__init__(kind, "The upstream began with an error.")
        self.answer = answer


class Relay:
    """
    One answer on its way from an upstream to a caller; a `ports.BodySink`.

    Args:
        call: Gets the times of content.
        channel: The caller.
        response: The upstream; paused while the caller is slow.
        meter: Sees the upstream's bytes.
        shaper: Hides the usage event; None relays the bytes untouched.
        translator: In a shaper's place when the dialects differ.
        head: Status and headers for the caller.
        stall_s: A write that takes longer ends the call.
    """

    __slots__ = (
        "_call",
        "_channel",
        "_departure",
        "_drain_bytes",
        "_drain_until",
        "_end_error",
        "_head",
        "_is_ending",
        "_last",
        "_last_read_at",
        "_last_write_at",
        "_loop",
        "_meter",
        "_opened_at",
        "_opening",
        "_previous",
        "_queued",
        "_response",
        "_resumed_at",
        "_shaper",
        "_stall_s",
        "_translator",
        "_writing",
        "done",
    )

    def __init__(
        self,
        call: Call,
        channel: ClientChannel,
        response: UpstreamResponse,
        meter: Meter,
        *,
        shaper: StreamTransform | None = None,
        translator: StreamTranslator | None = None,
        head: tuple[int, Headers],
        stall_s: float,
    ) -> None:
        self._call = call
        self._channel = channel
        self._response = response
        self._meter = meter
        self._shaper = translator or shaper
        self._translator = translator
        relays_events = translator is None and call.stream
        self._opening = FirstEventGate(call.client_wire) if relays_events else None
        self._head = head
        self._stall_s = stall_s
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._last_read_at = self._last_write_at = monotonic()
        self._resumed_at = 0.0
        self._departure: GatewayError | None = None
        self._drain_until: float | None = None
        self._drain_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._queued: list[bytes] = []
        self._is_ending = False
        self._end_error: GatewayError | None = None
        self._previous = b""
        self._last = b""
        self.done: asyncio.Future[GatewayError | None] = self._loop.create_future()

    # The three calls of a BodySink, from the transport's data_received.

    def body_chunk(self, chunk: bytes) -> None:
        """Forward one network read, then meter it."""
        if self.done.done():
            return
        meter, shaper = self._meter, self._shaper
        try:
            if self._drain_until is not None:
                self._count_drained(chunk)
            else:
                ready = chunk if self._opening is None else self._opened(self._opening.feed(chunk))
                out = ready if shaper is None or not ready else shaper.feed(ready)
                if out:
                    self._write(out)
                elif self._translator is not None:
                    self._check_early(self._translator)
            seen = meter.contents
            meter.feed(chunk)
        except Exception as error:  # noqa: BLE001 # ends this call; the connection is not to blame
            self._break(error)
            return
        self._last_read_at = now = monotonic()
        if meter.contents != seen:
            call = self._call
            call.last_content_at = now
            call.content_count += 1
            if call.first_content_at is None:
                call.first_content_at = now

    def body_end(self) -> None:
        """The upstream's body is complete."""
        if self._opening is not None and self._drain_until is None and not self.done.done():
            try:
                self._let_through(self._opened(self._opening.end()))
            except Exception as error:  # noqa: BLE001 # as in `body_chunk`
                self._break(error)
        self._finish(None)

    def body_failed(self, error: GatewayError) -> None:
        """The upstream's body broke off."""
        self._finish(error)

    # What ends a relay from elsewhere.

    def client_left(self) -> None:
        """The caller is gone: nothing more is written; what is read on is metered only."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.cancel()
        error = GatewayError(ErrorKind.CLIENT_GONE, "The caller left.")
        self._depart(error, was_writing=writing is not None)

    def _depart(self, error: GatewayError, *, was_writing: bool) -> None:
        """End with `error`, at once or after reading on for the usage."""
        if self._departure is not None:
            return
        reads_on = self._call.reads_on
        if not reads_on and not self._meter.content_ended:
            self.stop(error)
            return
        self._departure = error
        self._drain_until = monotonic() + (DRAIN_S if reads_on else SILENT_FINISH_S)
        self._queued.clear()
        if was_writing:
            self._written()

    @property
    def drained(self) -> bool:
        """The caller left and the stream was read on."""
        return self._drain_until is not None

    def _count_drained(self, chunk: bytes) -> None:
        self._drain_bytes += len(chunk)
        if self._drain_bytes > DRAIN_BYTES and self._departure is not None:
            self.stop(self._departure)

    def stop(self, error: GatewayError) -> None:
        """End now, whatever is still under way."""
        if not self.done.done():
            self.done.set_result(error)

    def _break(self, error: Exception) -> None:
        """End with a mistake of ours."""
        if not self.done.done():
            self.done.set_exception(error)

    def check(self, now: float, clocks: Clocks) -> None:
        """
        Commit a late head, or end a stream whose clock ran out; called a few times a second.

        Comments and pings do not feed the content clocks. A slow caller stops all but the total:
        its writes have a limit of their own.
        """
        if self.done.done():
            return
        try:
            self._check(now, clocks)
        except Exception as error:  # noqa: BLE001 # as in `body_chunk`
            self._break(error)

    def _check(self, now: float, clocks: Clocks) -> None:
        if self._drain_until is not None:
            self._check_departed(now, self._drain_until)
        elif now - self._sent_at > clocks.total_s:
            self._finish(expired("total", clocks.total_s))
        elif self._writing is not None:
            return
        elif self._call.stream and self._is_told:
            self._check_finished(now, clocks)
        else:
            self._check_content(now, clocks)

    def _check_departed(self, now: float, until: float) -> None:
        """Stop reading on when the usage has come and nothing follows, or the time is over."""
        meter = self._meter
        is_late = now > until
        if meter.content_ended and meter.reported:
            if is_late or now - self._last_read_at > SILENT_END_S:
                self._finish(None)
        elif is_late and self._departure is not None:
            self.stop(self._departure)

    def _check_content(self, now: float, clocks: Clocks) -> None:
        call = self._call
        first_s = clocks.first_content_s if call.stream else clocks.first_byte_s
        if call.last_content_at is None and now - self._sent_at > first_s:
            self.stop(expired("first content", first_s))
        elif call.last_content_at is not None and now - self._alive_at > clocks.idle_s:
            self.stop(expired("next content", clocks.idle_s))
        elif not call.stream:
            return  # an empty head would only forfeit the other deployments
        elif not self._channel.started and now - self._opened_at > COMMIT_S:
            self._commit()
        elif self._translator is not None and now - self._last_write_at > PING_S:
            self._ping()

    def _check_finished(self, now: float, clocks: Clocks) -> None:
        """All is said; only usage, the end mark or the end of the connection may be missing."""
        translator = self._translator
        is_over = self._meter.saw_end or (translator is not None and translator.done)
        silent_s = SILENT_END_S if is_over else SILENT_FINISH_S
        if now - self._last_read_at <= silent_s and now - self._alive_at <= clocks.idle_s:
            return
        if translator is not None:
            rest = translator.expire_after_finish()
            if rest:
                self._write(rest)
        self._finish(None)

    @property
    def _is_told(self) -> bool:
        """The model has said why it ended, or the upstream that it failed."""
        meter, translator = self._meter, self._translator
        if meter.finish_reason is not None or meter.saw_end or meter.failed:
            return True
        return translator is not None and translator.done

    @property
    def _sent_at(self) -> float:
        call = self._call
        return call.sent_at if call.sent_at is not None else call.started_at

    @property
    def _alive_at(self) -> float:
        """When content last came, or the upstream was last let go on after a slow write."""
        last = self._call.last_content_at
        return max(last if last is not None else self._sent_at, self._resumed_at)

    def _opened(self, ready: bytes) -> bytes:
        """Take what the opening lets through, and note what it has found."""
        opening = self._opening
        assert opening is not None
        if opening.is_open:
            self._opening = None
        elif opening.error is not None:
            call = self._call
            fault = read_stream_fault(call.client_wire, opening.error)
            answer = translate_error(fault, call.client_wire, call.model_asked)
            early = EarlyError(answer.status, answer.headers, answer.body, fault)
            self.stop(EarlyUpstreamError(early))
        return ready

    def _commit(self) -> None:
        """Send the head although nothing was said but comments, which follow."""
        self._channel.start(*self._head)
        if self._translator is not None:
            self._ping()
        elif self._opening is not None:
            self._let_through(self._opened(self._opening.release()))

    def _let_through(self, ready: bytes) -> None:
        out = ready if self._shaper is None or not ready else self._shaper.feed(ready)
        if out:
            self._write(out)

    def _check_early(self, translator: StreamTranslator) -> None:
        """Let an error at the stream's start become an HTTP error, or the end when it is late."""
        early = translator.early_error
        if early is None:
            return
        if self._channel.started:
            self._finish(None)
        else:
            self.stop(EarlyUpstreamError(early))

    def _ping(self) -> None:
        self._write(_PINGS[self._call.client_wire])
        self._last_write_at = monotonic()

    @property
    def tail(self) -> tuple[bytes, bytes]:
        """The last two pieces written, enough to tell whether they end at an event boundary."""
        return self._previous, self._last

    async def write(self, chunk: bytes) -> None:
        """
        Write a last piece after `done`.

        Raises:
            GatewayError: SLOW_CLIENT, the caller does not take it within the stall limit.
        """
        if not self._channel.started:
            self._channel.start(*self._head)
        pending = self._channel.try_write(chunk)
        if pending is None:
            return
        try:
            async with asyncio.timeout(self._stall_s):
                await pending
        except TimeoutError as error:
            raise _stalled(self._stall_s) from error

    async def aclose(self) -> None:
        """Stop writing. The owner calls this when `done` is set or the call is cancelled."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    def _write(self, chunk: bytes) -> None:
        if self._writing is not None:
            self._queued.append(chunk)  # at most what the transport had in hand when it was paused
            return
        channel = self._channel
        if not channel.started:
            channel.start(*self._head)
        self._previous = self._last
        self._last = chunk
        self._last_write_at = self._last_read_at
        pending = channel.try_write(chunk)
        if pending is not None:
            self._response.pause()
            self._writing = self._loop.create_task(self._finish_write(pending))

    async def _finish_write(self, pending: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._stall_s):
                await pending
                while self._queued:
                    chunk = b"".join(self._queued)
                    self._queued.clear()
                    self._previous, self._last = self._last, chunk
                    more = self._channel.try_write(chunk)
                    if more is not None:
                        await more
        except TimeoutError:
            self._writing = None
            self._depart(_stalled(self._stall_s), was_writing=True)
        except Exception as error:  # noqa: BLE001 # the root of this task
            self._break(error)
        else:
            self._written()

    def _written(self) -> None:
        """Go on after a slow write: with the end if it has come meanwhile, else with reading."""
        self._writing = None
        if self._is_ending:
            self._finish(self._end_error)
            return
        self._resumed_at = self._last_read_at = self._last_write_at = monotonic()
        self._response.resume()

    def _finish(self, error: GatewayError | None) -> None:
        """End once all that was read is written."""
        departure = self._departure
        if departure is not None and departure.kind is ErrorKind.SLOW_CLIENT:
            error = departure
        if self._writing is None:
            if not self.done.done():
                self.done.set_result(error)
        elif not self._is_ending:
            self._is_ending = True
            self._end_error = error


def _stalled(limit_s: float) -> GatewayError:
    return GatewayError(ErrorKind.SLOW_CLIENT, f"The caller took no bytes for {limit_s:g} s.")


def expired(what: str, limit_s: float) -> GatewayError:
    """Return the error of an upstream whose clock ran out."""
    return GatewayError(
        ErrorKind.UPSTREAM_TIMEOUT,
        "The upstream model did not answer in time.",
        detail=f"{what}: over {limit_s:g} s",
    )
