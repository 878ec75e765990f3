"""The listening sockets that workers inherit."""

from __future__ import annotations

import os
import socket

import pytest

from gateway.server.workers.listeners import (
    ListenError,
    close_all,
    keep_only,
    open_listeners,
    stop_accepting,
)
from tests.support.gateway_process import free_port


def test_each_slot_listens_on_the_same_port() -> None:
    """Connections are accepted by whichever slot the kernel chose."""
    port = free_port()
    listeners = open_listeners("127.0.0.1", port, 128, 3)

    assert {each.getsockname() for each in listeners} == {("127.0.0.1", port)}
    assert len({each.fileno() for each in listeners}) == 3
    close_all(listeners)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_address_in_use_is_an_error_that_names_it() -> None:
    """Another program's socket does not share its port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}: .*in use.*server.port"):
            open_listeners("127.0.0.1", port, 128, 2)


def test_ipv6_address_is_named_in_brackets() -> None:
    """Its port is not taken for a part of it."""
    with pytest.raises(ListenError, match=r"cannot listen on \[2001:db8::1\]:8080: "):
        open_listeners("2001:db8::1", 8080, 128, 1)


def test_worker_keeps_its_own_socket_only() -> None:
    """The descriptor has no owner any more: Granian closes it."""
    listeners = open_listeners("127.0.0.1", free_port(), 128, 2)

    descriptor = keep_only(listeners, 1)

    assert [each.fileno() for each in listeners] == [-1, -1]
    os.close(descriptor)


def test_connection_waits_for_the_next_worker_once_one_stops_accepting() -> None:
    """The supervisor's descriptor still listens; the worker's finds no connection, and no error."""
    port = free_port()
    (listener,) = open_listeners("127.0.0.1", port, 128, 1)
    of_worker = listener.dup()
    of_worker.setblocking(False)

    stop_accepting(of_worker.fileno())

    with socket.create_connection(("127.0.0.1", port), 5) as client:
        with pytest.raises(BlockingIOError):
            socket.socket.accept(of_worker)
        accepted, address = listener.accept()
        assert address == client.getsockname()
        accepted.close()
    of_worker.close()
    close_all([listener])
