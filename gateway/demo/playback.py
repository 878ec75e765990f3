"""Plays a response of the demo upstream to its client, with or without a fault."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol

from gateway.demo import server
from gateway.demo.faults import Fault
from gateway.demo.record import Served
from gateway.demo.script import Event, Script
from gateway.demo.server import CHUNKED_END, Exchange

GARBAGE = b"\x00\xffthis is not HTTP\xfe\r\n\r\n"
_SURPLUS_BYTES = 64
"""Bytes that `wrong_length` announces but does not send."""


class Dialect(Protocol):
    """The functions of a module that renders one dialect."""

    def completion(self, script: Script, model: str, call_id: str, created: int) -> bytes:
        """Return the complete response as JSON."""
        ...

    def events(
        self, script: Script, model: str, call_id: str, created: int, *, with_usage: bool
    ) -> Iterator[Event]:
        """Yield the events of a stream."""
        ...

    def text_event(self, text: str, model: str, call_id: str, created: int) -> bytes:
        """Return one event with a text."""
        ...

    def error(self, status: int) -> bytes:
        """Return an error body."""
        ...

    def error_event(self) -> bytes:
        """Return the event that reports an error inside a stream."""
        ...


class Playback:
    """
    One response.

    Args:
        exchange: The request.
        dialect: Renders the response.
        script: The content of the response.
        served: Records what is sent.
        created: The response's time.
        pace_s: Seconds between two tokens.
    """

    def __init__(
        self,
        exchange: Exchange,
        dialect: Dialect,
        script: Script,
        served: Served,
        created: int,
        pace_s: float,
    ) -> None:
        self._exchange = exchange
        self._dialect = dialect
        self._script = script
        self._served = served
        self._created = created
        self._pace_s = pace_s

    async def play(self, fault: Fault | None, *, with_usage: bool) -> None:
        """Send the response; `with_usage` applies to streams of OpenAI's dialect."""
        if fault is not None and await self._fails_early(fault):
            return
        if self._served.streamed:
            await self._stream(fault, with_usage=with_usage)
        else:
            await asyncio.sleep(self._pace_s * self._script.output_tokens)
            await self._whole(fault)

    async def _fails_early(self, fault: Fault) -> bool:
        """Play a fault that replaces the response; return False for other faults."""
        if fault.kind == "refuse":
            self._exchange.connection.reset()
        elif fault.kind == "hang_head":
            await self._exchange.until_gone()
        elif fault.kind == "garbage" and not (self._served.streamed and fault.after):
            await self._exchange.send(GARBAGE)
            self._exchange.close()
        elif fault.kind in ("rate_limit", "status"):
            await self._refuse(fault)
            return True
        else:
            return False
        self._served.ending = "broken"
        return True

    async def _refuse(self, fault: Fault) -> None:
        limited = fault.kind == "rate_limit"
        self._served.status = 429 if limited else fault.status
        headers = self._request_id()
        if limited:
            headers += b"retry-after: %d\r\n" % fault.retry_after_s
        error = self._dialect.error(self._served.status)
        await self._exchange.send(server.whole(error, self._served.status, headers))
        self._served.ending = "complete"

    async def _stream(self, fault: Fault | None, *, with_usage: bool) -> None:
        self._served.status = 200
        await self._send(server.stream_head(self._request_id()), fault)
        events = self._dialect.events(
            self._script, self._served.model, self._served.id, self._created, with_usage=with_usage
        )
        pending = fault
        for event in events:
            if pending is not None and event.is_token and self._served.tokens_sent >= pending.after:
                if await self._breaks(pending, event.data):
                    return
                pending = None
            if event.is_token:
                await asyncio.sleep(self._pace_s)
            await self._send(server.chunk(event.data), fault)
            self._count(event)
            # The event that begins a message is not repeated: that would begin a second one.
            repeats = event.output_tokens is not None and self._served.tokens_sent > 0
            if repeats and fault is not None and fault.kind == "duplicate_usage":
                await self._exchange.chunk(event.data)
                self._count(event)
        await self._exchange.send(CHUNKED_END)
        self._served.ending = "complete"

    async def _breaks(self, fault: Fault, event: bytes) -> bool:
        """Play a fault inside a stream, and return whether that ended it."""
        exchange = self._exchange
        match fault.kind:
            case "hang_stream":
                await exchange.until_gone()
            case "end_early":
                await exchange.send(CHUNKED_END)
            case "error_after_200":
                await exchange.send(server.chunk(self._dialect.error_event()) + CHUNKED_END)
            case "garbage":
                await exchange.send(GARBAGE)
                exchange.close()
            case "wrong_length":
                await exchange.send(b"%x\r\n%b" % (len(event) + _SURPLUS_BYTES, event))
                exchange.close()
            case "cut":
                exchange.close()
            case "huge_event":
                text = "x" * fault.size_bytes
                served = self._served
                huge = self._dialect.text_event(text, served.model, served.id, self._created)
                await exchange.chunk(huge)
                return False
            case _:
                return False
        self._served.ending = "broken"
        return True

    async def _whole(self, fault: Fault | None) -> None:
        if fault is not None and fault.streams_only:
            fault = None
        kind = None if fault is None else fault.kind
        body = self._body(fault)
        self._served.status = 200
        if kind in ("cut", "hang_stream", "wrong_length", "end_early"):
            await self._incomplete(body, hang=kind == "hang_stream", half=kind != "wrong_length")
            return
        if kind != "error_after_200":
            self._served.tokens_sent = self._script.output_tokens
            for _ in range(2 if kind == "duplicate_usage" else 1):
                self._served.report_usage(self._script.input_tokens, self._script.output_tokens)
        await self._send(server.whole(body, headers=self._request_id()), fault)
        self._served.ending = "complete"

    def _body(self, fault: Fault | None) -> bytes:
        kind = None if fault is None else fault.kind
        script = self._script
        if kind == "error_after_200":
            return self._dialect.error(500)
        if fault is not None and kind == "huge_event":
            script = script.with_text("x" * fault.size_bytes)
        served = self._served
        body = self._dialect.completion(script, served.model, served.id, self._created)
        if kind == "duplicate_usage":
            # Usage is the last member in both dialects.
            body = body[:-1] + b"," + body[body.rindex(b'"usage":') :]
        return body

    async def _incomplete(self, body: bytes, *, hang: bool, half: bool) -> None:
        promised = len(body) if half else len(body) + _SURPLUS_BYTES
        sent = body[: len(body) // 2] if half else body
        await self._exchange.send(server.head(200, promised, self._request_id()) + sent)
        if hang:
            await self._exchange.until_gone()
        self._exchange.close()
        self._served.ending = "broken"

    def _request_id(self) -> bytes:
        """Return the header that names this response in the records of the client."""
        return b"x-request-id: %b\r\n" % self._served.id.encode()

    async def _send(self, data: bytes, fault: Fault | None) -> None:
        if fault is None or fault.kind != "drip":
            await self._exchange.send(data)
            return
        for start in range(0, len(data), fault.piece_bytes):
            await self._exchange.send(data[start : start + fault.piece_bytes])
            await asyncio.sleep(fault.pace_s)

    def _count(self, event: Event) -> None:
        self._served.tokens_sent += event.is_token
        if event.output_tokens is not None:
            self._served.report_usage(self._script.input_tokens, event.output_tokens)
