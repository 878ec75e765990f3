"""The bus over TCP with TLS, verified."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis, RedisLimits, RedisState
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.redis.connection import ReplyError, open_connection
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.redis, pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])]


class TlsFront:
    """Ends TLS in front of a Valkey's socket."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self.serving = 0

    async def serve(self, client: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        server, server_out = await asyncio.open_unix_connection(self._socket_path)
        self.serving += 1
        pumps = [self._pump(client, server_out), self._pump(server, client_out)]
        await asyncio.gather(*pumps, return_exceptions=True)
        self.serving -= 1

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.closing(sink):
            while piece := await source.read(65536):
                sink.write(piece)
                await sink.drain()


@contextlib.asynccontextmanager
async def tls_front(valkey: ValkeyProcess, tmp_path: Path) -> AsyncIterator[str]:
    """A `valkeys://localhost:port` with a certificate whose authority lies in `ca.pem`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    tls = TlsFront(valkey.socket_path)
    server = await asyncio.start_server(tls.serve, "127.0.0.1", 0, ssl=context)
    yield f"valkeys://localhost:{server.sockets[0].getsockname()[1]}"
    server.close()
    valkey.kill()
    await wait_until(lambda: not tls.serving)


@pytest.fixture
async def front(valkey: ValkeyProcess, tmp_path: Path) -> AsyncIterator[str]:
    """The TLS proxy of the test's Valkey."""
    async with tls_front(valkey, tmp_path) as url:
        yield url


async def test_tls_verified_bus_and_cold_client_work(front: str, tmp_path: Path) -> None:
    """With the authority named in the URL both kinds of connection are made."""
    target = parse_address(f"{front}?ssl_ca_certs={tmp_path / 'ca.pem'}")
    bus = PipelinedRedis(target, RedisLimits(command_timeout_s=5))
    await bus.start()

    assert await bus.command("SET", "k", "v") == b"OK"
    client = cold_client(target)
    assert await client.get("k") == b"v"

    await client.aclose()
    await bus.aclose()


async def test_tls_with_a_user_of_acl(tmp_path: Path) -> None:
    """User and password go over the verified connection; the wrong ones are refused."""
    server = ValkeyProcess.with_user("capio", "s3cret", "~*", "&*", "+@all")
    server.start()
    async with tls_front(server, tmp_path) as url:
        named = f"{url.replace('://', '://capio@')}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        bus = PipelinedRedis(
            parse_address(named, password="s3cret"), RedisLimits(command_timeout_s=5)
        )
        await bus.start()
        assert await bus.command("ACL", "WHOAMI") == b"capio"
        await bus.aclose()

        with pytest.raises(ReplyError, match="WRONGPASS"):
            await open_connection(parse_address(named, password="wrong"))
    server.close()


async def test_tls_unknown_authority_is_refused(front: str) -> None:
    """A certificate of an unknown authority is rejected."""
    bus = PipelinedRedis(parse_address(front), RedisLimits(failures_to_open=1))

    await bus.start()

    assert bus.state is RedisState.OPEN
    await bus.aclose()
