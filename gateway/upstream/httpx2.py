"""
A transport over httpx2, for providers behind a proxy or with HTTP/2 only.

It costs about twenty times the CPU time of `upstream.http1`, so operators opt in with
`transport = "httpx2"`. A task owned by the response pulls the body; pausing stops the task, and
TCP or HTTP/2 flow control then stops the upstream.
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
from gateway.settings.urls import host_and_port
from gateway.upstream.errors import upstream_failure
from gateway.upstream.whole_body import read_whole

_BODYLESS: Final = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))


class Httpx2Origin:
    """
    Sends requests to one origin through `httpx2.AsyncHTTPTransport`.

    `connect_total` and `reused_total` stay 0: httpx2 does not report them.
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
        """Responses not yet complete or closed: an upper bound of the busy connections."""
        return len(self._open)

    @property
    def idle_connections(self) -> int:
        """Always 0: httpx2 does not report them."""
        return 0

    async def send(self, request: UpstreamRequest) -> Httpx2Response:
        """
        Send and wait for the response head; see `ports.Transport.send`.

        The connect timeout is added to `head_timeout_s`, since httpx2 does not report when it
        begins to send.
        """
        origin = self._origin
        if self._closed or len(self._open) >= origin.max_connections:
            what = "closed" if self._closed else f"{origin.max_connections} responses open"
            raise upstream_failure(ErrorKind.OVERLOADED, origin, what)
        response = Httpx2Response(origin, self._open)
        self._open.add(response)
        try:
            async with asyncio.timeout(request.clocks.connect_s + request.head_timeout_s):
                head = await self._transport.handle_async_request(self._build(request))
        except (httpx2.TransportError, TimeoutError) as error:
            self._open.discard(response)
            raise upstream_failure(_kind(error), origin, "httpx2 request", error) from error
        except BaseException:
            self._open.discard(response)
            raise
        response.begin(head)
        return response

    async def aclose(self) -> None:
        """Abort every response, wait for their tasks and close httpx2's pool."""
        self._closed = True
        error = upstream_failure(
            ErrorKind.UPSTREAM_BROKEN, self._origin, "the gateway is closing its connections"
        )
        responses = tuple(self._open)
        for response in responses:
            response.abort(error)
        for response in responses:
            await response.wait_closed()
        await self._transport.aclose()

    def _build(self, request: UpstreamRequest) -> httpx2.Request:
        origin = self._origin
        headers = list(request.headers)
        if request.body or request.method not in _BODYLESS:
            headers.append((b"content-length", b"%d" % len(request.body)))
        scheme = "https" if origin.tls else "http"
        return httpx2.Request(
            request.method,
            f"{scheme}://{host_and_port(origin.host, origin.port)}{request.path}",
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
    A response whose head has been received; implements `ports.UpstreamResponse`.

    Its task waits for `start`, pulls the body and always closes the stream. The sink is not called
    between `pause` and `resume`.
    """

    __slots__ = (
        "_closed", "_may_pull", "_open", "_origin", "_paused", "_pulling", "_sink", "_task",
        "headers", "status",
    )  # fmt: skip

    def __init__(self, origin: Origin, open_responses: set[Httpx2Response]) -> None:
        self._origin = origin
        self._open = open_responses
        self._sink: BodySink | None = None
        self._may_pull = asyncio.Event()
        self._paused = False
        self._pulling = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self.status = 0
        self.headers: Headers = []

    def begin(self, head: httpx2.Response) -> None:
        """Set status and headers; the body is not read before `start`."""
        assert isinstance(head.stream, httpx2.AsyncByteStream)
        self.status = head.status_code
        self.headers = [(name.lower(), value) for name, value in head.headers.raw]
        self._task = asyncio.get_running_loop().create_task(self._pull(head.stream))
        self._task.add_done_callback(self._report)

    @property
    def complete(self) -> bool:
        """Always False: the body is not received before it is read."""
        return False

    def start(self, sink: BodySink) -> None:
        """Push the body into `sink`, from the loop's next iteration on; no-op after `close`."""
        if self._closed:
            return
        self._sink = sink
        if not self._paused:
            self._may_pull.set()

    def pause(self) -> None:
        """Stop pulling. Idempotent."""
        if self._closed:
            return
        self._paused = True
        self._may_pull.clear()

    def resume(self) -> None:
        """Continue pulling. Idempotent; pushes nothing before it returns."""
        self._paused = False
        if self._sink is not None:
            self._may_pull.set()

    def close(self) -> None:
        """Close the stream; the sink is not called again. Idempotent."""
        self._closed = True
        self._sink = None
        self._may_pull.set()
        if self._pulling and self._task is not None:
            self._task.cancel()

    def abort(self, error: GatewayError) -> None:
        """Close the response and report `error` to the sink."""
        sink = self._sink
        self.close()
        if sink is not None:
            sink.body_failed(error)

    async def wait_closed(self) -> None:
        """Wait until the stream is closed."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def read(self, limit_bytes: int) -> bytes:
        """
        Return the whole body. Cancelling closes the response.

        Raises:
            GatewayError: UPSTREAM_BROKEN if the body is incomplete, UPSTREAM_MALFORMED beyond the
                limit.
        """
        if self._closed:
            raise upstream_failure(ErrorKind.UPSTREAM_BROKEN, self._origin, "read after close")
        return await read_whole(self, self._origin, limit_bytes)

    async def _pull(self, stream: httpx2.AsyncByteStream) -> None:
        """Push the body, close the stream and report the end; the response's task."""
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
        await self._may_pull.wait()
        sink, self._sink = self._sink, None
        if sink is not None and failure is not None:
            sink.body_failed(failure)
        elif sink is not None:
            sink.body_end()

    async def _push_body(self, stream: httpx2.AsyncByteStream) -> None:
        await self._may_pull.wait()
        chunks = aiter(stream)
        self._pulling = True
        try:
            while self._sink is not None:
                chunk = await anext(chunks, None)
                if chunk is None:
                    return
                await self._may_pull.wait()
                if chunk and self._sink is not None:
                    self._sink.body_chunk(chunk)
        finally:
            self._pulling = False
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    @staticmethod
    def _report(task: asyncio.Task[None]) -> None:
        """Report an exception of the sink to the loop, as for a protocol's callback."""
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
