"""Connections without a request: which are closed, and which are left alone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from gateway.edge.first_heads import SCAN_S, FirstHeads
from tests.support.waiting import wait_until_sync


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    host = "127.0.0.1" if request.param == socket.AF_INET else "::1"
    with socket.create_server((host, 0), family=request.param) as opened:
        yield opened


class Pair:
    """A client and the gateway's end of its connection."""

    def __init__(self, listener: socket.socket) -> None:
        self.client = socket.create_connection(listener.getsockname()[:2])
        self.accepted, _ = listener.accept()
        self.name = self.client.getsockname()[:2]

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.accepted.close()

    @property
    def is_closed(self) -> bool:
        """Whether the client sees the end of the connection."""
        self.client.setblocking(False)
        try:
            return self.client.recv(1) == b""
        except BlockingIOError:
            return False


def test_silent_connection_is_closed_after_its_limit(listener: socket.socket) -> None:
    """Its age counts from the first scan that finds it."""
    heads = FirstHeads(listener.getsockname()[1], 3.0)
    with Pair(listener) as silent:
        assert [heads.scan(1.0) for _ in range(3)] == [0, 0, 0]
        assert not silent.is_closed
        assert heads.scan(1.0) == 1
        assert silent.is_closed


def test_connection_with_a_request_is_left_alone(listener: socket.socket) -> None:
    """Also if the request came just before the limit, or scans ago."""
    heads = FirstHeads(listener.getsockname()[1], 2.0)
    with Pair(listener) as early, Pair(listener) as late, Pair(listener) as silent:
        heads.note(early.name)
        assert [heads.scan(1.0) for _ in range(2)] == [0, 0]
        heads.note(late.name)
        assert heads.scan(1.0) == 1
        silent.accepted.close()  # as the server does at the end of its input
        assert [heads.scan(1.0) for _ in range(4)] == [0, 0, 0, 0]
        assert [pair.is_closed for pair in (early, late, silent)] == [False, False, True]


def test_next_connection_of_a_port_is_not_the_served_one(listener: socket.socket) -> None:
    """A client's port is forgotten with its connection."""
    heads = FirstHeads(listener.getsockname()[1], 2.0)
    with Pair(listener) as served:
        heads.note(served.name)
        heads.scan(1.0)
    heads.scan(1.0)
    assert heads._served == {}


def test_request_during_a_scan_is_not_forgotten(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection may be too new for the scan that is going on."""
    heads = FirstHeads(listener.getsockname()[1], 2.0)
    listed = os.listdir

    def list_late(path: str) -> list[str]:
        names: list[str] = listed(path)
        heads.note(("127.0.0.1", 7))
        return names

    heads.note(("127.0.0.1", 8))
    monkeypatch.setattr("os.listdir", list_late)
    heads.scan(1.0)

    assert list(heads._served) == [7]


def test_next_connection_of_a_descriptor_has_its_own_age() -> None:
    """Two clients may have the same port, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heads = FirstHeads(listener.getsockname()[1], 2.0)
        with Pair(listener) as first:
            port, descriptor = first.name[1], first.accepted.fileno()
            assert [heads.scan(1.0) for _ in range(2)] == [0, 0]
        source = ("127.0.0.2", port)
        with socket.create_connection(listener.getsockname(), source_address=source):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.fileno() == descriptor, "the lowest free descriptor is used again"
                assert heads.scan(1.0) == 0


def test_scan_follows_a_tick_after_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrived while the loop was blocked is noted between the two."""
    now = 100.0
    monkeypatch.setattr("gateway.edge.first_heads.monotonic", lambda: now)
    heads = FirstHeads(1, 6.0)

    heads.tick()
    now += SCAN_S
    heads.tick()
    assert not heads._wake.is_set()
    heads.tick()
    assert heads._wake.is_set()


def test_failed_scan_is_logged_and_repeated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a free descriptor none can be listed."""
    heads = FirstHeads(1, 6.0)
    scans: list[float] = []

    def scan(elapsed_s: float) -> int:
        scans.append(elapsed_s)
        if len(scans) == 1:
            raise OSError(24, "Too many open files")
        return 0

    monkeypatch.setattr(heads, "scan", scan)
    heads.start()
    try:
        heads._wake.set()
        wait_until_sync(lambda: len(scans) == 1)
        heads._wake.set()
        wait_until_sync(lambda: len(scans) == 2)
    finally:
        heads.stop()

    assert [record.message for record in caplog.records] == ["connection_scan_failed"]


def test_other_sockets_are_left_alone(listener: socket.socket) -> None:
    """Connections to upstreams, pipes and listeners are none of a client's."""
    heads = FirstHeads(listener.getsockname()[1] + 1, 0.0)
    with Pair(listener) as other:
        assert heads.scan(1.0) == 0
        assert heads.scan(1.0) == 0
        assert not other.is_closed


def test_unix_client_has_no_port() -> None:
    """Granian names no client then."""
    heads = FirstHeads(1, 1.0)
    heads.note(None)
    assert heads._served == {}
