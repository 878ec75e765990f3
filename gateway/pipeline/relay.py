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
3. Exactly one result: `done` holds None, or the error that ended the stream. Whoever awaits `done`
   closes the response; the relay never writes after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import monotonic
from typing import Protocol

from gateway.core.model import Clocks, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.channel import ClientChannel
from gateway.ports import Headers, UpstreamResponse
from gateway.protocols.opening import Opening
from gateway.protocols.translate.contract import EarlyError, StreamTranslator
from gateway.protocols.upstream_errors import translate_error
from gateway.protocols.upstream_faults import error_kind, read_stream_fault

COMMIT_S = 10.0
SILENT_FINISH_S = 5.0
"""After the finish reason: how long usage and the end mark may still take."""
DRAIN_S = 60.0
DRAIN_BYTES = 16 * 1024 * 1024
"""How long and how far a stream is read on for its usage after its caller left."""
PING_S = 15.0
"""A translated stream that has nothing to say for so long gets a ping."""


_PINGS = {
    Wire.ANTHROPIC: b'event: ping\ndata: {"type":"ping"}\n\n',
    Wire.OPENAI: b": ping\n\n",
}


class Meter(Protocol):
    """Reads what passes by and changes nothing."""

    @property
    def finish_reason(self) -> str | None:
        """Why the model ended; None while it goes on."""

    @property
    def contents(self) -> int:
        """How often content was seen; grows with every read that brought some."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the upstream's body."""


class EarlyFailureError(GatewayError):
    """A stream began with an error: `answer` is a whole HTTP answer in the caller's dialect."""

    def __init__(self, answer: EarlyError) -> None:
        kind = error_kind(answer.fault) if answer.fault else ErrorKind.UPSTREAM_REFUSED
        super().__init__(kind, "The upstream began with an error.")
        self.answer = answer


class Shaper(Protocol):
    """Turns the upstream's bytes into the caller's: hides an event, or translates."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what goes to the caller now, possibly nothing."""

    def end(self, clean: bool) -> bytes:
        """Take the end of the upstream's body; return what is still to go out."""


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
        "_drain_bytes",
        "_drain_until",
        "_head",
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
        shaper: Shaper | None = None,
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
        self._opening = Opening(call.client_wire) if relays_events else None
        self._head = head
        self._stall_s = stall_s
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._last_read_at = self._last_write_at = monotonic()
        self._drain_until: float | None = None
        self._drain_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._queued: list[bytes] = []
        self._previous = b""
        self._last = b""
        self.done: asyncio.Future[GatewayError | None] = self._loop.create_future()

    # The three calls of a BodySink, from the transport's data_received.

    def body_chunk(self, chunk: bytes) -> None:
        """Forward one network read, then meter it."""
        if self.done.done():
            return
        meter = self._meter
        if self._drain_until is not None:
            self._drain(chunk)
            return
        shaper = self._shaper
        ready = chunk if self._opening is None else self._opened(self._opening.feed(chunk))
        out = ready if shaper is None or not ready else shaper.feed(ready)
        if out:
            self._write(out)
        elif not self._channel.started:
            self._check_early()
        seen = meter.contents
        meter.feed(chunk)
        self._last_read_at = now = monotonic()
        if meter.contents != seen:
            call = self._call
            call.last_content_at = now
            call.content_count += 1
            if call.first_content_at is None:
                call.first_content_at = now

    def body_end(self) -> None:
        """The upstream's body is complete."""
        if self._opening is not None:
            self._let_through(self._opened(self._opening.end()))
        self._finish(None)

    def body_failed(self, error: GatewayError) -> None:
        """The upstream's body broke off."""
        self._finish(error)

    # What ends a relay from elsewhere.

    def client_left(self) -> None:
        """The caller is gone: nothing more is written, and by policy nothing more is read."""
        deployment = self._call.deployment
        if deployment is None or not deployment.provider.drains:
            self.stop(GatewayError(ErrorKind.CLIENT_GONE, "The caller left."))
            return
        self._drain_until = monotonic() + DRAIN_S
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
            self._response.resume()

    @property
    def drained(self) -> bool:
        """The caller left and the stream was read on."""
        return self._drain_until is not None

    def _drain(self, chunk: bytes) -> None:
        self._drain_bytes += len(chunk)
        self._meter.feed(chunk)
        if self._drain_bytes > DRAIN_BYTES:
            self.stop(GatewayError(ErrorKind.CLIENT_GONE, "The caller left."))

    def stop(self, error: GatewayError) -> None:
        """End now, whatever is still under way."""
        if not self.done.done():
            self.done.set_result(error)

    def check(self, now: float, clocks: Clocks) -> None:
        """
        Commit a late head, or end a stream whose clock ran out; called a few times a second.

        Comments and pings do not feed the content clocks. A slow caller stops them: its writes have
        a limit of their own.
        """
        if self.done.done() or self._writing is not None:
            return
        if self._drain_until is not None:
            if now > self._drain_until:
                self.stop(GatewayError(ErrorKind.CLIENT_GONE, "The caller left."))
            return
        if self._meter.finish_reason is not None:
            self._check_finished(now)
            return
        call = self._call
        started = call.sent_at if call.sent_at is not None else call.started_at
        last = call.last_content_at
        if now - started > clocks.total_s:
            self.stop(_expired("total", clocks.total_s))
        elif last is None and now - started > clocks.first_content_s:
            self.stop(_expired("first content", clocks.first_content_s))
        elif last is not None and now - last > clocks.idle_s:
            self.stop(_expired("next content", clocks.idle_s))
        elif not self._channel.started and now - self._opened_at > COMMIT_S:
            self._commit()
        elif self._translator is not None and now - self._last_write_at > PING_S:
            self._ping()

    def _check_finished(self, now: float) -> None:
        """The model has said why it ended; only usage and the end mark may be missing."""
        if now - self._last_read_at <= SILENT_FINISH_S:
            return
        if self._translator is not None:
            rest = self._translator.expire_after_finish()
            if rest:
                self._write(rest)
        self._finish(None)

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
            self.stop(EarlyFailureError(early))
        return ready

    def _commit(self) -> None:
        """Send the head although nothing was said but comments, which follow."""
        self._channel.start(*self._head)
        if self._opening is not None:
            self._let_through(self._opened(self._opening.release()))

    def _let_through(self, ready: bytes) -> None:
        out = ready if self._shaper is None or not ready else self._shaper.feed(ready)
        if out:
            self._write(out)

    def _check_early(self) -> None:
        """Before the head is out, an error at the stream's start becomes an HTTP error."""
        early = self._translator.early_error if self._translator is not None else None
        if early is not None:
            self.stop(EarlyFailureError(early))

    def _ping(self) -> None:
        if not self._channel.started:
            self._channel.start(*self._head)
        self._last_read_at = monotonic()
        self._write(_PINGS[self._call.client_wire])

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
            self.stop(_stalled(self._stall_s))
            return
        self._writing = None
        self._response.resume()

    def _finish(self, error: GatewayError | None) -> None:
        if self.done.done():
            return
        writing = self._writing
        if writing is None or writing.done():
            self.done.set_result(error)
            return
        # The last bytes are still on their way to a slow caller.
        writing.add_done_callback(lambda _: self._finish(error))


def _stalled(limit_s: float) -> GatewayError:
    return GatewayError(ErrorKind.SLOW_CLIENT, f"The caller took no bytes for {limit_s:g} s.")


def _expired(what: str, limit_s: float) -> GatewayError:
    return GatewayError(
        ErrorKind.UPSTREAM_TIMEOUT,
        "The upstream model did not answer in time.",
        detail=f"{what}: over {limit_s:g} s",
    )
