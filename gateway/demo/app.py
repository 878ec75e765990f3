"""The demo upstream as an ASGI application."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec

from gateway.demo import anthropic_wire, openai_wire
from gateway.demo.requests import DemoRequest, decode, read_prompt
from gateway.demo.script import Script, read

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_JSON = b"application/json"
_SSE = b"text/event-stream"
_STALL_S = 3600.0


class DemoUpstream:
    """
    Serves `/v1/chat/completions`, `/v1/messages`, `/v1/messages/count_tokens`, `/v1/embeddings`.

    Args:
        pace_s: Seconds between two tokens of a stream; 0.02 is typical of a model.
    """

    def __init__(self, pace_s: float = 0.02) -> None:
        self._pace_s = pace_s
        self._ids = itertools.count(1)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        body = await _body(receive)
        path: str = scope["path"]
        anthropic = "/messages" in path
        try:
            request = decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            await _respond(send, 400, (anthropic_wire if anthropic else openai_wire).error(400))
            return
        if path.endswith("/embeddings"):
            await _respond(send, 200, openai_wire.embeddings(request.model, bytes(request.input)))
            return
        script = read(read_prompt(request, body))
        if path.endswith("/count_tokens"):
            await _respond(send, 200, anthropic_wire.token_count(script.input_tokens))
        elif script.status != 200:
            wire = anthropic_wire if anthropic else openai_wire
            await _respond(send, script.status, wire.error(script.status))
        elif request.stream:
            await self._stream(send, script, self._events(request, script, anthropic=anthropic))
        else:
            await asyncio.sleep(self._pace_s * script.output_tokens)
            await _respond(send, 200, self._completion(request, script, anthropic=anthropic))

    def _call_id(self) -> str:
        return f"demo{next(self._ids):08d}"

    def _completion(self, request: DemoRequest, script: Script, *, anthropic: bool) -> bytes:
        if anthropic:
            return anthropic_wire.message(script, request.model, self._call_id())
        return openai_wire.completion(script, request.model, self._call_id(), int(time.time()))

    def _events(
        self, request: DemoRequest, script: Script, *, anthropic: bool
    ) -> Iterator[tuple[bytes, bool]]:
        if anthropic:
            return anthropic_wire.chunks(script, request.model, self._call_id())
        options = request.stream_options
        return openai_wire.chunks(
            script,
            request.model,
            self._call_id(),
            int(time.time()),
            with_usage=options is not None and bool(options.include_usage),
        )

    async def _stream(
        self, send: Send, script: Script, events: Iterator[tuple[bytes, bool]]
    ) -> None:
        await send(_head(200, _SSE))
        tokens = 0
        for event, is_token in events:
            if script.fault is not None and tokens >= script.fault_after and is_token:
                await _fail(send, script.fault)
                return
            if is_token:
                tokens += 1
                await asyncio.sleep(self._pace_s)
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _fail(send: Send, fault: str) -> None:
    if fault == "stall":
        await asyncio.sleep(_STALL_S)
    if fault == "cut":
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    # break: an incomplete body closes the connection


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _head(status: int, content_type: bytes, length: int | None = None) -> Message:
    headers = [(b"content-type", content_type)]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _respond(send: Send, status: int, body: bytes) -> None:
    await send(_head(status, _JSON, len(body)))
    await send({"type": "http.response.body", "body": body, "more_body": False})
