"""Connections that say nothing, too much, or HTTP/2 hold neither places nor memory."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time

import pytest

from tests.abuse.service import LONG, AbusedGateway, resident_mib
from tests.support.raw_client import Connection

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

HEADS = 300 if LONG else 100
CLOCK_S = 16.0
"""A head must be complete by then."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 0)[1:] + b"\4\0\0\0\0\0"


def client_context(*protocols: str) -> ssl.SSLContext:
    """Return a TLS client that offers these protocols and accepts any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def closes_within(opened: socket.socket, seconds: float) -> bytes:
    """Return what comes before the other side closes, which it must do in time."""
    opened.settimeout(seconds)
    got = b""
    try:
        while piece := opened.recv(65_536):
            got += piece
    except ConnectionResetError:
        pass
    except TimeoutError:
        pytest.fail(f"still open after {seconds} s")
    return got


@pytest.mark.parametrize("offered", [("h2",), ("h2", "http/1.1"), ("http/1.1",), ()])
def test_tls_does_not_negotiate_http2(over_tls: AbusedGateway, offered: tuple[str, ...]) -> None:
    """There is no clock in HTTP/2 here, so it is not offered."""
    with socket.create_connection(("127.0.0.1", over_tls.port), timeout=5) as plain:
        try:
            with client_context(*offered).wrap_socket(plain) as opened:
                assert opened.selected_alpn_protocol() in (None, "http/1.1")
                opened.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert closes_within(opened, 5).startswith(b"HTTP/1.1 200")
        except ssl.SSLError as refused:
            assert offered == ("h2",), refused


@pytest.mark.parametrize("offered", [("h2",), ()], ids=["offering h2", "offering nothing"])
def test_the_preface_of_http2_ends_a_tls_connection(
    over_tls: AbusedGateway, offered: tuple[str, ...]
) -> None:
    """An HTTP/2 preface without negotiation ends the connection."""
    with socket.create_connection(("127.0.0.1", over_tls.port), timeout=5) as plain:
        try:
            opened = client_context(*offered).wrap_socket(plain)
        except ssl.SSLError:
            return
        with opened:
            opened.sendall(PREFACE)
            got = closes_within(opened, CLOCK_S)
        assert not got or got.startswith(b"HTTP/1.1 4")


def test_the_preface_of_http2_ends_a_plain_connection(abused: AbusedGateway) -> None:
    """HTTP/2 with prior knowledge ends the connection."""
    with socket.create_connection(("127.0.0.1", abused.port), timeout=5) as opened:
        opened.sendall(PREFACE)
        got = closes_within(opened, CLOCK_S)
        assert not got or got.startswith(b"HTTP/1.1 4")


def test_a_connection_without_a_whole_head_is_closed(
    abused: AbusedGateway, over_tls: AbusedGateway
) -> None:
    """Silent, half a line, and a byte now and then: all are over when the header clock is."""
    dripping = b"GET /hea"
    held: list[tuple[socket.socket, bytes]] = []
    with contextlib.ExitStack() as stack:
        for gateway in (abused, over_tls):
            for said in (b"", dripping, b"GET /healthz HTTP/1.1\r\nhost: x\r\n"):
                opened = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
                if gateway is over_tls:
                    opened = stack.enter_context(client_context().wrap_socket(opened))
                opened.sendall(said)
                held.append((opened, said))
        began = time.monotonic()
        while time.monotonic() - began < 3.0:
            time.sleep(0.5)
            for opened, said in held:
                if said == dripping:
                    with contextlib.suppress(OSError):
                        opened.sendall(b"l")
        for opened, _ in held:
            closes_within(opened, max(CLOCK_S - (time.monotonic() - began), 0.1))


def test_unfinished_heads_of_390_kb_are_not_kept(abused: AbusedGateway) -> None:
    """Each is refused or closed at some tens of KB; memory stays flat."""
    (worker,) = abused.process.workers()
    before = resident_mib(worker)
    held: list[socket.socket] = []
    try:
        for _ in range(HEADS):
            opened = socket.create_connection(("127.0.0.1", abused.port), timeout=5)
            held.append(opened)
            with contextlib.suppress(OSError):
                opened.sendall(b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 390_000)
        time.sleep(1.0)
        grown = resident_mib(worker) - before
    finally:
        for opened in held:
            opened.close()
    print(f"{HEADS} heads of 390 KB: {grown:+.1f} MiB")
    assert grown < HEADS * 0.1  # 65 KB each, and what a connection takes


def test_an_ordinary_large_head_is_read(abused: AbusedGateway) -> None:
    """20 KB of headers, as proxies and tracing add them, are no attack."""
    with Connection(abused.port) as connection:
        assert connection.request("GET", "/healthz", x_trace="t" * 20_000).status == 200


def test_memory_and_places_are_free_when_they_left(abused: AbusedGateway) -> None:
    """After many connections were closed, memory and counters are as before."""
    for _ in range(3):
        held = [socket.create_connection(("127.0.0.1", abused.port), timeout=5) for _ in range(200)]
        for opened in held:
            opened.close()
    assert abused.get("/healthz").status == 200
