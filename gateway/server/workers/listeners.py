"""
The listening sockets of the workers, which the supervisor holds.

Each slot has one socket, which its successive workers inherit, so that connections that wait to be
accepted are not lost when a worker exits. The kernel distributes connections over the sockets
(SO_REUSEPORT); where it does not, all slots share one.
"""

from __future__ import annotations

import os
import socket
import sys

from gateway.settings.urls import host_and_port


class ListenError(Exception):
    """The gateway cannot listen; the message names the address and the reason."""


def open_listeners(
    host: str, port: int, backlog: int, slots: int, setting: str = "server.port"
) -> list[socket.socket]:
    """
    Return one listening socket per slot.

    Args:
        host, port, backlog: Where to listen.
        slots: How many sockets.
        setting: The one that the port is from, for errors.

    Raises:
        ListenError: The address cannot be used.
    """
    opened: list[socket.socket] = []
    try:
        opened.append(_listen(host, port, backlog))
        while len(opened) < slots and sys.platform == "linux":
            opened.append(_listen(host, port, backlog))
    except OSError as failure:
        close_all(opened)
        raise ListenError(
            f"The gateway cannot listen on {host_and_port(host, port)}:"
            f" {failure.strerror or failure}."
            f" Change server.host or {setting}, or stop what uses the port."
        ) from failure
    return opened if len(opened) == slots else opened * slots


def close_all(sockets: list[socket.socket]) -> None:
    """Close the sockets in this process."""
    for each in sockets:
        each.close()


def keep_only(sockets: list[socket.socket], slot: int) -> int:
    """Close all sockets but that of a slot; return its descriptor, to be closed by the receiver."""
    kept = sockets[slot]
    for each in sockets:
        if each is not kept:
            each.close()
    return kept.detach()


def stop_accepting(descriptor: int) -> None:
    """
    Replace a listening socket by one that no client can reach.

    Granian, which accepts from `descriptor`, has no way to stop accepting without closing idle
    connections, some of which carry a request that is on its way.
    """
    with socket.socket(_UNREACHABLE) as silent:
        if _UNREACHABLE == socket.AF_INET:
            silent.bind(("127.0.0.1", 0))
        else:
            silent.bind(b"")  # an abstract address, chosen by the kernel
        silent.listen(1)
        silent.setblocking(False)
        os.dup2(silent.fileno(), descriptor)


_UNREACHABLE = socket.AF_UNIX if sys.platform == "linux" else socket.AF_INET


def _listen(host: str, port: int, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener
