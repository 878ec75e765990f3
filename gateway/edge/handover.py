"""
Relays requests for pages to the console process.

A worker only relays: it never renders a page. The bounds below keep pages from delaying calls.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

from gateway.core.model import Clocks, Origin
from gateway.errors import GatewayError
from gateway.pipeline.client.channel import ClientChannel
from gateway.ports import Headers, Transport, UpstreamRequest, UpstreamResponse
from gateway.settings import Settings

MAX_RUNNING = 32  # per worker
MAX_BODY_BYTES = 256 * 1024
READ_AHEAD_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0
PAGE_TIMEOUT_S = 30.0
EVENTS_TIMEOUT_S = 600.0

# Hop-by-hop (RFC 9110 7.6.1), set anew, or a credential that no page reads.
_DROPPED = frozenset(
    {
        *(b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"proxy-authorization", b"proxy-connection", b"expect", b"content-length"),
        *(b"authorization", b"x-api-key", b"forwarded", b"x-real-ip", b"x-forwarded-host"),
        *(b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-port"),
    }
)
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"trailer", b"transfer-encoding", b"upgrade"}
)
_CLOCKS = Clocks(
    connect_s=1.0,
    first_byte_s=PAGE_TIMEOUT_S,
    first_content_s=PAGE_TIMEOUT_S,
    idle_s=PAGE_TIMEOUT_S,
    total_s=EVENTS_TIMEOUT_S,
)
_AWAY = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>The pages restart</title>"
    b"<h1>The pages restart.</h1><p>Calls are not affected. Reload in a few seconds.</p></html>"
)


class Handover:
    """
    Relays to the console of this host.

    Args:
        origin: Where the console listens.
        transport: Connects to it.
        tls: Clients connect over TLS.
        trusted: Proxies whose `x-forwarded-*` headers are forwarded.
    """

    def __init__(
        self,
        origin: Origin,
        transport: Transport,
        *,
        tls: bool,
        trusted: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = (),
    ) -> None:
        self._origin = origin
        self._transport = transport
        self._scheme = b"https" if tls else b"http"
        self._trusted = trusted
        self._running = 0

    @classmethod
    def create(cls, settings: Settings, transport: Transport) -> Handover | None:
        """Return the handover that the settings describe; None without a console."""
        console = settings.console
        if not console.enabled:
            return None
        origin = Origin(console.host, console.port, tls=False, max_connections=MAX_RUNNING)
        return cls(
            origin,
            transport,
            tls=settings.server.tls_cert_file is not None,
            trusted=[ipaddress.ip_network(each) for each in console.trusted_proxies],
        )

    async def try_handle(self, channel: ClientChannel) -> bool:
        """
        Relay one request; return False if the console did not respond and nothing was sent.

        Raises:
            GatewayError: BODY_TOO_LARGE, BODY_TIMEOUT, BAD_REQUEST, CLIENT_GONE.
        """
        if self._running >= MAX_RUNNING:
            return False
        self._running += 1
        try:
            task = asyncio.current_task()
            assert task is not None
            body = await channel.read_body(MAX_BODY_BYTES, BODY_TIMEOUT_S, task)
            try:
                response = await self._transport.send(self._request(channel, body))
            except GatewayError:
                return False
            await _relay(response, channel)
            return True
        finally:
            self._running -= 1

    def _request(self, channel: ClientChannel, body: bytes) -> UpstreamRequest:
        scope = channel.scope
        raw = scope.get("raw_path")
        path = scope["path"] if raw is None else raw.decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        headers = [(name, value) for name, value in channel.headers if name not in _DROPPED]
        return UpstreamRequest(
            origin=self._origin,
            method=scope["method"],
            path=f"{path}?{query}" if query else path,
            headers=(*headers, *self._forwarded(channel)),
            body=body,
            clocks=_CLOCKS,
            head_timeout_s=PAGE_TIMEOUT_S,
        )

    def _forwarded(self, channel: ClientChannel) -> Headers:
        client = channel.scope.get("client")
        peer = client[0] if client else ""
        names, scheme = peer.encode(), self._scheme
        if self._is_trusted(peer):
            earlier = channel.header(b"x-forwarded-for")
            names = names if earlier is None else earlier + b", " + names
            scheme = channel.header(b"x-forwarded-proto") or scheme
        return [(b"x-forwarded-for", names), (b"x-forwarded-proto", scheme)]

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def wants_page(channel: ClientChannel) -> bool:
    """Return whether the client is a browser rather than a program such as curl."""
    return b"text/html" in (channel.header(b"accept") or b"")


async def send_away(channel: ClientChannel) -> None:
    """Respond that the console is unavailable or busy."""
    headers: Headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(_AWAY)).encode()),
        (b"cache-control", b"no-store"),
        (b"retry-after", b"2"),
    ]
    await channel.respond(503, headers, b"" if channel.scope["method"] == "HEAD" else _AWAY)


async def _relay(response: UpstreamResponse, channel: ClientChannel) -> None:
    """Send the response to the client; if it is cut off, so is the client's."""
    headers = [(name, value) for name, value in response.headers if name not in _HOP_BY_HOP]
    streams = any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in headers
    )
    body = _Body(response)
    try:
        channel.watch_gone(body.stop)
        channel.start(response.status, headers)
        response.start(body)
        async with asyncio.timeout(EVENTS_TIMEOUT_S if streams else PAGE_TIMEOUT_S):
            while (chunk := await body.next()) is not None:
                waits = channel.try_write(chunk)
                if waits is not None:
                    await waits
        if body.complete:
            await channel.end()
    except TimeoutError:
        pass  # without an end, the response is visibly incomplete
    finally:
        response.close()


class _Body:
    """The body of a response: pauses the socket while `READ_AHEAD_BYTES` wait for the client."""

    def __init__(self, response: UpstreamResponse) -> None:
        self._response = response
        self._chunks: list[bytes] = []
        self._size = 0
        self._ended = False
        self._ready = asyncio.Event()
        self.complete = False
        """The whole body was received."""

    def body_chunk(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size >= READ_AHEAD_BYTES:
            self._response.pause()
        self._ready.set()

    def body_end(self) -> None:
        self.complete = True
        self.stop()

    def body_failed(self, error: GatewayError) -> None:  # noqa: ARG002 -- the response is cut off
        self.stop()

    def stop(self) -> None:
        self._ended = True
        self._ready.set()

    async def next(self) -> bytes | None:
        """Return what has arrived, joined; None after the last bytes or when stopped."""
        while not self._chunks:
            if self._ended:
                return None
            self._ready.clear()
            await self._ready.wait()
        joined = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        self._response.resume()
        return joined
