"""
Relays requests for pages, and those of the operators' API, to the console process.

A worker only relays: it never renders a page or reads SQL for one. The bounds below keep relayed
requests from delaying calls.
"""

from __future__ import annotations

import asyncio

from gateway.core.model import Clocks, Origin
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.channel import ClientChannel
from gateway.ports import Headers, Transport, UpstreamRequest, UpstreamResponse
from gateway.protocols.http.forwarded import TrustedProxies
from gateway.settings import Settings

MAX_RUNNING = 32  # per worker
MAX_ADMIN_RUNNING = 16
MAX_BODY_BYTES = 256 * 1024
READ_AHEAD_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0
PAGE_TIMEOUT_S = 30.0
EVENTS_TIMEOUT_S = 600.0
ADMIN_TIMEOUT_S = 60.0  # reports of the operators' API may read many rows
ADMIN_RETRY_S = 2.0

# Hop-by-hop headers (RFC 9110 7.6.1), and those that the gateway replaces.
_NOT_RELAYED = frozenset(
    {
        *(b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"proxy-authorization", b"proxy-connection", b"expect", b"content-length"),
        *(b"x-capio-client", b"x-api-key"),
    }
)
# For pages also a credential that no page reads, and proxy headers; `_forwarded` sets two.
_NOT_FOR_PAGES = _NOT_RELAYED | {
    *(b"authorization", b"forwarded", b"x-real-ip", b"x-forwarded-host"),
    *(b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-port"),
}
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"trailer", b"transfer-encoding", b"upgrade"}
)
_SAFE = ("GET", "HEAD")
_AWAY = (
    b"<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>"
    b"<title>The pages restart</title>"
    b"<h1>The pages restart.</h1><p>Calls are not affected. This page reloads by itself.</p></html>"
)


class NoResponseError(Exception):
    """The console may have carried out a request whose response was not received."""


class Relay:
    """
    Relays requests to the console, a bounded number at a time.

    Args:
        origin: Where the console listens.
        transport: Connects to it.
        limit: Maximum number of concurrent requests.
        timeout_s: Time until the whole response is received; not applied to event streams.
    """

    def __init__(
        self, origin: Origin, transport: Transport, *, limit: int, timeout_s: float
    ) -> None:
        self._origin = origin
        self._transport = transport
        self._limit = limit
        self._timeout_s = timeout_s
        self._clocks = Clocks(
            connect_s=1.0,
            first_byte_s=timeout_s,
            first_content_s=timeout_s,
            idle_s=timeout_s,
            total_s=EVENTS_TIMEOUT_S,
        )
        self._running = 0

    async def try_handle(self, channel: ClientChannel, headers: Headers) -> bool:
        """
        Relay one request; return False if the console did not respond and nothing was sent.

        Args:
            channel: The request.
            headers: Sent instead of those of the client.

        Raises:
            GatewayError: BODY_TOO_LARGE, BODY_TIMEOUT, BAD_REQUEST, CLIENT_GONE.
            NoResponseError: The console was sent a request that may change something, and did not
                respond.
        """
        if self._running >= self._limit:
            return False
        self._running += 1
        try:
            task = asyncio.current_task()
            assert task is not None
            body = await channel.read_body(MAX_BODY_BYTES, BODY_TIMEOUT_S, task)
            try:
                response = await self._transport.send(self._request(channel, headers, body))
            except GatewayError as error:
                if error.kind is ErrorKind.UPSTREAM_CONNECT or channel.scope["method"] in _SAFE:
                    return False
                raise NoResponseError from error
            await _relay(response, channel, self._timeout_s)
            return True
        finally:
            self._running -= 1

    def _request(self, channel: ClientChannel, headers: Headers, body: bytes) -> UpstreamRequest:
        scope = channel.scope
        raw = scope.get("raw_path")
        path = scope["path"] if raw is None else raw.decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        return UpstreamRequest(
            origin=self._origin,
            method=scope["method"],
            path=f"{path}?{query}" if query else path,
            headers=tuple(headers),
            body=body,
            clocks=self._clocks,
            head_timeout_s=self._timeout_s,
        )


class Handover:
    """
    Relays requests for pages to the console of this host.

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
        trusted: TrustedProxies | None = None,
    ) -> None:
        self._relay = Relay(origin, transport, limit=MAX_RUNNING, timeout_s=PAGE_TIMEOUT_S)
        self._scheme = b"https" if tls else b"http"
        self._trusted = trusted or TrustedProxies()

    @classmethod
    def create(cls, settings: Settings, transport: Transport) -> Handover | None:
        """Return the handover that the settings describe; None without pages."""
        console = settings.console
        if not console.enabled:
            return None
        origin = Origin(console.host, console.port, tls=False, max_connections=MAX_RUNNING)
        return cls(
            origin,
            transport,
            tls=settings.server.tls_cert_file is not None,
            trusted=TrustedProxies([*settings.server.trusted_proxies, *console.trusted_proxies]),
        )

    async def try_handle(self, channel: ClientChannel) -> bool:
        """
        Relay one request; return False if the console did not respond and nothing was sent.

        Raises:
            GatewayError: BODY_TOO_LARGE, BODY_TIMEOUT, BAD_REQUEST, CLIENT_GONE.
        """
        headers = [(name, value) for name, value in channel.headers if name not in _NOT_FOR_PAGES]
        try:
            return await self._relay.try_handle(channel, [*headers, *self._forwarded(channel)])
        except NoResponseError:
            return False  # forms that book money carry a key, so that they can be sent again

    def _forwarded(self, channel: ClientChannel) -> Headers:
        peer = _peer(channel)
        names, scheme = peer.encode(), self._scheme
        if self._trusted.trusts(peer):
            earlier = channel.header(b"x-forwarded-for")
            names = names if earlier is None else earlier + b", " + names
            scheme = channel.header(b"x-forwarded-proto") or scheme
        return [(b"x-forwarded-for", names), (b"x-forwarded-proto", scheme)]


class AdminHandover:
    """
    Relays requests of the operators' API, which the console checks and serves.

    Args:
        relay: Relays to the console; None if this port does not serve the API.
        trusted: Proxies whose `x-forwarded-for` names the client.
    """

    def __init__(self, relay: Relay | None, trusted: TrustedProxies | None = None) -> None:
        self._relay = relay
        self._trusted = trusted or TrustedProxies()

    @classmethod
    def create(cls, settings: Settings, transport: Transport) -> AdminHandover:
        """Return the handover that the settings describe."""
        if not (settings.admin.is_configured and settings.admin.expose):
            return cls(None)
        console = settings.console
        origin = Origin(console.host, console.port, tls=False, max_connections=MAX_ADMIN_RUNNING)
        relay = Relay(origin, transport, limit=MAX_ADMIN_RUNNING, timeout_s=ADMIN_TIMEOUT_S)
        return cls(relay, TrustedProxies(settings.server.trusted_proxies))

    async def handle(self, channel: ClientChannel, path: str) -> None:
        """
        Respond to one request.

        Raises:
            GatewayError: UNKNOWN_PATH: there is no such API; STORE_UNAVAILABLE: the console did not
                get the request; UPSTREAM_BROKEN: it did not respond to a request that may change
                something; BODY_TOO_LARGE, BODY_TIMEOUT, BAD_REQUEST, CLIENT_GONE.
        """
        if self._relay is None:
            raise GatewayError(ErrorKind.UNKNOWN_PATH, f"There is nothing at {path}.")
        # Proxy headers are relayed: they let the API refuse requests that came through a proxy.
        headers = [(name, value) for name, value in channel.headers if name not in _NOT_RELAYED]
        client = self._trusted.client(_peer(channel), channel.headers)
        headers.append((b"x-capio-client", client.encode()))
        try:
            is_handled = await self._relay.try_handle(channel, headers)
        except NoResponseError as error:
            raise GatewayError(
                ErrorKind.UPSTREAM_BROKEN,
                "The admin API did not respond: the request may have been carried out or not."
                " Read the object before you send it again; with an 'idempotency-key' a booking is"
                " safe to repeat.",
                code="admin_outcome_unknown",
            ) from error
        if not is_handled:
            raise GatewayError(
                ErrorKind.STORE_UNAVAILABLE,
                "The admin API is not available: its process, the console, is starting or busy."
                " Calls are not affected. Send the request again in a few seconds.",
                code="admin_api_unavailable",
                retry_after_s=ADMIN_RETRY_S,
            )


def _peer(channel: ClientChannel) -> str:
    client = channel.scope.get("client")
    return client[0] if client else ""


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


async def _relay(response: UpstreamResponse, channel: ClientChannel, timeout_s: float) -> None:
    """Send the response to the client; it stays incomplete if the console's was cut off."""
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
        async with asyncio.timeout(EVENTS_TIMEOUT_S if streams else timeout_s):
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
