"""Requests for pages reach the console as browsers sent them, without credentials."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from gateway.core.model import Origin
from gateway.edge.handover import (
    ADMIN_RETRY_S,
    MAX_RUNNING,
    AdminHandover,
    Handover,
    send_away,
    wants_page,
)
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.channel import ClientChannel
from gateway.protocols.http.forwarded import TrustedProxies
from gateway.settings import Admin, Console, Settings
from gateway.upstream.transport import UpstreamTransport
from tests.support.pipeline_fakes import FakeClient


class Pages:
    """A console that reports what it received, sends `body` and waits, or hangs up."""

    def __init__(self) -> None:
        self.port = 0
        self.body: bytes | None = None
        self.hangs_up = False
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = [line.split(": ", 1) for line in lines]
        length = int(dict(headers).get("content-length", 0))
        sent = await reader.readexactly(length)
        if self.hangs_up:
            writer.close()
            return
        if self.body is not None:
            self.waiting.set()
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            await self.go_on.wait()
            writer.write(self.body)
        else:
            shown = json.dumps({"first": first, "headers": headers, "body": sent.decode()}).encode()
            writer.write(
                b"HTTP/1.1 303 See Other\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nlocation: /x\r\n"
                b"keep-alive: timeout=5\r\ncontent-length: %d\r\n\r\n%s" % (len(shown), shown)
            )
        await writer.drain()
        writer.close()


@pytest.fixture
async def pages() -> AsyncIterator[Pages]:
    made = Pages()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    made.go_on.set()


@pytest.fixture
async def transport() -> AsyncIterator[UpstreamTransport]:
    made = UpstreamTransport()
    yield made
    await made.aclose()


def handover(port: int, transport: UpstreamTransport, trusted: str = "10.0.0.0/8") -> Handover:
    origin = Origin("127.0.0.1", port, tls=False)
    return Handover(origin, transport, tls=True, trusted=TrustedProxies([trusted]))


def channel(client: FakeClient) -> ClientChannel:
    return ClientChannel(client.scope, client.receive, client.send)


async def test_request_and_response_pass_without_credentials(
    pages: Pages, transport: UpstreamTransport
) -> None:
    """What protects forms stays; API credentials and spoofed addresses do not; cookies return."""
    client = FakeClient(
        "/app/x%20y",
        b"name=value",
        method="POST",
        headers=[
            (b"host", b"capio.test"),
            (b"origin", b"https://capio.test"),
            (b"sec-fetch-site", b"same-origin"),
            (b"cookie", b"session=1"),
            (b"authorization", b"Bearer sk-1"),
            (b"x-api-key", b"sk-1"),
            (b"x-forwarded-for", b"203.0.113.9"),
            (b"x-forwarded-proto", b"http"),
            (b"content-length", b"10"),
        ],
    )
    client.scope["raw_path"] = b"/app/x%20y"
    client.scope["query_string"] = b"a=1&b=%2F"

    assert await handover(pages.port, transport).try_handle(channel(client))

    seen = json.loads(client.body)
    assert seen["first"] == "POST /app/x%20y?a=1&b=%2F HTTP/1.1"
    assert seen["body"] == "name=value"
    assert seen["headers"] == [
        ["host", "capio.test"],
        ["origin", "https://capio.test"],
        ["sec-fetch-site", "same-origin"],
        ["cookie", "session=1"],
        ["x-forwarded-for", "192.0.2.1"],
        ["x-forwarded-proto", "https"],
        ["content-length", "10"],
    ]
    assert client.status == 303
    assert [value for name, value in client.headers if name == b"set-cookie"] == [b"a=1", b"b=2"]
    assert client.header(b"keep-alive") is None
    assert client.ended


async def test_trusted_proxy_names_the_client(pages: Pages, transport: UpstreamTransport) -> None:
    """The header of a proxy in `console.trusted_proxies` is extended, not replaced."""
    client = FakeClient(
        "/app",
        b"",
        method="GET",
        headers=[(b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-proto", b"http")],
    )

    await handover(pages.port, transport, "192.0.2.0/24").try_handle(channel(client))

    headers = dict(json.loads(client.body)["headers"])
    assert headers["x-forwarded-for"] == "203.0.113.9, 192.0.2.1"
    assert headers["x-forwarded-proto"] == "http"


async def test_console_that_is_away_leaves_the_response_to_the_edge(
    pages: Pages, transport: UpstreamTransport
) -> None:
    """Nothing is sent, so that a page can say that the pages restart."""
    client = FakeClient("/app", b"", method="GET")
    away = channel(client)

    assert not await handover(1, transport).try_handle(away)
    await send_away(away)

    assert (client.status, client.header(b"retry-after")) == (503, b"2")
    assert b"Calls are not affected" in client.body


async def test_requests_at_once_are_bounded(pages: Pages, transport: UpstreamTransport) -> None:
    """One more than the limit is refused at once, and served again after the others end."""
    pages.body = b"x" * 300_000
    relay = handover(pages.port, transport)
    clients = [FakeClient("/app", b"", method="GET") for _ in range(MAX_RUNNING)]
    running = [asyncio.create_task(relay.try_handle(channel(client))) for client in clients]
    await pages.waiting.wait()

    assert not await relay.try_handle(channel(FakeClient("/app", b"", method="GET")))
    pages.go_on.set()
    assert all(await asyncio.gather(*running))

    assert all(client.body == pages.body for client in clients)


async def test_large_forms_are_refused(pages: Pages, transport: UpstreamTransport) -> None:
    """A body over 256 KiB is refused by its length, before it is read."""
    client = FakeClient("/app", method="POST", headers=[(b"content-length", b"262145")])

    with pytest.raises(GatewayError) as caught:
        await handover(pages.port, transport).try_handle(channel(client))

    assert caught.value.kind is ErrorKind.BODY_TOO_LARGE


def test_browsers_want_pages_and_programs_text() -> None:
    """`curl /` keeps getting the plain text."""
    browser = FakeClient("/", b"", method="GET", headers=[(b"accept", b"text/html,*/*;q=0.8")])
    program = FakeClient("/", b"", method="GET", headers=[(b"accept", b"*/*")])

    assert wants_page(channel(browser))
    assert not wants_page(channel(program))


def admin_settings(port: int, **admin: object) -> Settings:
    return Settings(console=Console(port=port), admin=Admin(**admin))  # type: ignore[arg-type]


async def test_admin_request_passes_with_its_token_and_its_clients_address(
    pages: Pages, transport: UpstreamTransport
) -> None:
    """What proxies add stays, so that the API can refuse it; a spoofed address does not."""
    client = FakeClient(
        "/admin/accounts",
        b"{}",
        method="POST",
        headers=[
            (b"authorization", b"Bearer token"),
            (b"x-api-key", b"sk-1"),
            (b"x-capio-client", b"203.0.113.9"),
            (b"x-forwarded-for", b"203.0.113.9"),
            (b"idempotency-key", b"k1"),
            (b"connection", b"close"),
        ],
    )
    admin = AdminHandover.create(admin_settings(pages.port, token_env="TOKEN"), transport)

    await admin.handle(channel(client), "/admin/accounts")

    seen = json.loads(client.body)
    assert (seen["first"], seen["body"]) == ("POST /admin/accounts HTTP/1.1", "{}")
    assert dict(seen["headers"]) == {
        "authorization": "Bearer token",
        "x-forwarded-for": "203.0.113.9",
        "idempotency-key": "k1",
        "x-capio-client": "192.0.2.1",
        "content-length": "2",
    } | {name: value for name, value in seen["headers"] if name == "host"}


async def test_admin_request_while_the_console_is_away_is_to_be_repeated(
    transport: UpstreamTransport,
) -> None:
    """503 says for which process, and when to retry."""
    admin = AdminHandover.create(admin_settings(1, token_env="TOKEN"), transport)

    with pytest.raises(GatewayError) as raised:
        await admin.handle(channel(FakeClient("/admin/keys", b"", method="GET")), "/admin/keys")

    error = raised.value
    assert (error.kind, error.code) == (ErrorKind.STORE_UNAVAILABLE, "admin_api_unavailable")
    assert "the console, is starting or busy" in error.message
    assert error.retry_after_s == ADMIN_RETRY_S


@pytest.mark.parametrize(
    ("method", "code", "retry_after_s"),
    [("GET", "admin_api_unavailable", ADMIN_RETRY_S), ("POST", "admin_outcome_unknown", None)],
)
async def test_admin_request_that_may_have_been_carried_out_is_not_to_be_repeated(
    pages: Pages, transport: UpstreamTransport, method: str, code: str, retry_after_s: float | None
) -> None:
    """A booking that is sent twice would be booked twice."""
    pages.hangs_up = True
    admin = AdminHandover.create(admin_settings(pages.port, token_env="TOKEN"), transport)

    with pytest.raises(GatewayError) as raised:
        await admin.handle(channel(FakeClient("/admin/keys", b"", method=method)), "/admin/keys")

    assert (raised.value.code, raised.value.retry_after_s) == (code, retry_after_s)


@pytest.mark.parametrize("admin", [{}, {"token_env": "TOKEN", "expose": False}])
async def test_admin_api_that_is_not_exposed_is_unknown(
    pages: Pages, transport: UpstreamTransport, admin: dict[str, object]
) -> None:
    """As any other path, whether it is off or on the console's port only."""
    handed = AdminHandover.create(admin_settings(pages.port, **admin), transport)

    with pytest.raises(GatewayError, match="There is nothing at /admin/keys") as raised:
        await handed.handle(channel(FakeClient("/admin/keys", b"", method="GET")), "/admin/keys")

    assert raised.value.kind is ErrorKind.UNKNOWN_PATH
