"""
The transport port over httpx2, for providers behind a proxy or with HTTP/2 only.

Costs some twenty times the CPU of our own connections, so it is chosen by the operator
(`transport = "httpx2"`). Here the body is pulled, by one task that its response owns; pausing
stops the pulling, and with it, through TCP or HTTP/2 flow control, the upstream.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
from collections.abc import AsyncGenerator
from typing import Final

import httpx2

from gateway.core.model import Origin
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import BodySink, Headers, UpstreamRequest
from gateway.upstream.errors import upstream_failure
from gateway.upstream.whole_body import read_whole

_BODYLESS: Final = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))


class Httpx2Origin:
    """
    Requests to one origin through `httpx2.AsyncHTTPTransport`; connections are httpx2's own.

    `connect_total` and `reused_total` stay 0: httpx2 does not tell.
    """

    __slots__ = ("_closed", "_open", "_origin", "_transport", "connect_total", "reused_total")

    def __init__(self, origin: Origin, ssl_context: ssl.SSLContext) -> None:
        self._origin = origin
        self._transport = httpx2.AsyncHTTPTransport(
            verify=ssl_context,
            trust_env=False,
            http2=importlib.util.find_spec("h2") is not None,
            limits=httpx2.Limits(
                max_connections=origin.max_connections,
                max_keepalive_connections=origin.max_connections,
                keepalive_expiry=origin.keepalive_s,
            ),
            proxy=origin.proxy,
        )
        self._open: set[Httpx2Response] = set()
        self._closed = False
        self.connect_total = 0
        self.reused_total = 0

    @property
    def open_connections(self) -> int:
        """Answers not yet finished or closed; at most as many connections are busy."""
        return len(self._open)

    @property
    def idle_connections(self) -> int:
        """Always 0: httpx2 does not tell."""
        return 0

    async def send(self, request: UpstreamRequest) -> Httpx2Response:
        """
        Send and wait for the response head; see `ports.Transport.send`.

        `head_timeout_s` runs from the start and is lengthened by the connect time-out, since
        httpx2 does not tell when it begins to send.
        """
        origin = self._origin
        if self._closed or len(self._open) >= origin.max_connections:
            what = "closed" if self._closed else f"{origin.max_connections} answers open"
            raise upstream_failure(ErrorKind.OVERLOADED, origin, what)
        response = Httpx2Response(origin, self._open)
        self._open.add(response)
        try:
            async with asyncio.timeout(request.clocks.connect_s + request.head_timeout_s):
                answer = await self._transport.handle_async_request(self._foreign(request))
        except (httpx2.TransportError, TimeoutError) as error:
            self._open.discard(response)
            raise upstream_failure(_kind(error), origin, "httpx2 request", error) from error
        except BaseException:
            self._open.discard(response)
            raise
        response.begin(answer)
        return response

    async def aclose(self) -> None:
        """Break off every answer, wait for their tasks and close httpx2's pool."""
        self._closed = True
        error = upstream_failure(
            ErrorKind.UPSTREAM_BROKEN, self._origin, "the gateway closes its connections"
        )
        responses = tuple(self._open)
        for response in responses:
            response.abort(error)
        for response in responses:
            await response.wait_closed()
        await self._transport.aclose()

    def _foreign(self, request: UpstreamRequest) -> httpx2.Request:
        origin = self._origin
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        headers = list(request.headers)
        if request.body or request.method not in _BODYLESS:
            headers.append((b"content-length", b"%d" % len(request.body)))
        return httpx2.Request(
            request.method,
            f"{'https' if origin.tls else 'http'}://{host}:{origin.port}{request.path}",
            headers=headers,
            stream=httpx2.ByteStream(request.body),
            extensions={
                "timeout": {
                    "connect": request.clocks.connect_s,
                    "pool": request.clocks.connect_s,
                    "read": None,
                    "write": None,
                }
            },
        )


class Httpx2Response:
    """
    A response whose head has come; implements `ports.UpstreamResponse`.

    Its task waits for `start`, pulls the body and closes the stream, whatever happens. The same
    rule as with our own connections: between `pause` and `resume` the sink hears nothing.
    """

    __slots__ = (
        "_closed", "_going", "_open", "_origin", "_paused", "_pulling", "_sink", "_task",
        "headers", "status",
    )  # fmt: skip

    def __init__(self, origin: Origin, open_responses: set[Httpx2Response]) -> None:
        self._origin = origin
        self._open = open_responses
        self._sink: BodySink | None = None
        self._going = asyncio.Event()
        self._paused = False
        self._pulling = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self.status = 0
        self.headers: Headers = []

    def begin(self, answer: httpx2.Response) -> None:
        """Take the head of the answer, and hold its body back."""
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        self.status = answer.status_code
        self.headers = [(name.lower(), value) for name, value in answer.headers.raw]
        self._task = asyncio.get_running_loop().create_task(self._pull(answer.stream))
        self._task.add_done_callback(self._report)

    def start(self, sink: BodySink) -> None:
        """Push the body into `sink` from the next turn of the loop on; nothing after `close`."""
        if self._closed:
            return
        self._sink = sink
        if not self._paused:
            self._going.set()

    def pause(self) -> None:
        """Stop pulling. Idempotent."""
        if self._closed:
            return
        self._paused = True
        self._going.clear()

    def resume(self) -> None:
        """Pull again after `pause`. Idempotent; pushes nothing before it returns."""
        self._paused = False
        if self._sink is not None:
            self._going.set()

    def close(self) -> None:
        """Drop the stream unless the body is complete; the sink hears no more. Idempotent."""
        self._closed = True
        self._sink = None
        self._going.set()
        if self._pulling and self._task is not None:
            self._task.cancel()

    def abort(self, error: GatewayError) -> None:
        """Close, and let the sink hear why."""
        sink = self._sink
        self.close()
        if sink is not None:
            sink.body_failed(error)

    async def wait_closed(self) -> None:
        """Return when the stream is closed."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def read(self, limit_bytes: int) -> bytes:
        """
        Return the whole body. Cancelling closes the response.

        Raises:
            GatewayError: UPSTREAM_BROKEN when it breaks off, UPSTREAM_MALFORMED beyond the limit.
        """
        if self._closed:
            raise upstream_failure(ErrorKind.UPSTREAM_BROKEN, self._origin, "read after close")
        return await read_whole(self, self._origin, limit_bytes)

    async def _pull(self, stream: httpx2.AsyncByteStream) -> None:
        """Be the response's task: push the body, close the stream, tell the end."""
        failure: GatewayError | None = None
        try:
            await self._push_body(stream)
        except httpx2.TransportError as error:
            failure = upstream_failure(
                ErrorKind.UPSTREAM_BROKEN, self._origin, "httpx2 body", error
            )
        finally:
            self._open.discard(self)
            await stream.aclose()
        await self._going.wait()
        sink, self._sink = self._sink, None
        if sink is not None and failure is not None:
            sink.body_failed(failure)
        elif sink is not None:
            sink.body_end()

    async def _push_body(self, stream: httpx2.AsyncByteStream) -> None:
        await self._going.wait()
        chunks = aiter(stream)
        self._pulling = True
        try:
            while self._sink is not None:
                chunk = await anext(chunks, None)
                if chunk is None:
                    return
                await self._going.wait()
                if chunk and self._sink is not None:
                    self._sink.body_chunk(chunk)
        finally:
            self._pulling = False
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    @staticmethod
    def _report(task: asyncio.Task[None]) -> None:
        """Hand what a sink raised to the loop, as a protocol's callback would."""
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            context = {"message": "A body sink failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)


def _kind(error: httpx2.TransportError | TimeoutError) -> ErrorKind:
    match error:
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError():
            return ErrorKind.UPSTREAM_CONNECT
        case httpx2.PoolTimeout():
            return ErrorKind.OVERLOADED
        case httpx2.TimeoutException() | TimeoutError():
            return ErrorKind.UPSTREAM_TIMEOUT
        case httpx2.LocalProtocolError() | httpx2.UnsupportedProtocol():
            return ErrorKind.INTERNAL
        case _:
            return ErrorKind.UPSTREAM_BROKEN
