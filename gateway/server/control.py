"""
The supervisor's control socket, and how commands reach it.

A Unix socket in the data directory that only its user can open. A client sends one JSON object in
one line, `{"command": "reload"}`, and gets one in return: `{"ok": true, ...}`, or
`{"ok": false, "errors": [...]}`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

logger = logging.getLogger(__name__)

_NAME = "control.sock"
_LARGEST_LINE = 1024 * 1024
_REQUEST_S = 5.0

Reply = dict[str, object]
Handler = Callable[[dict[str, object]], Reply]


class ControlError(Exception):
    """No gateway responds on the control socket."""


class ControlServer:
    """
    Responds to commands in a thread.

    Args:
        run_dir: Where the socket is.
        handlers: What each command does.
    """

    def __init__(self, run_dir: Path, handlers: Mapping[str, Handler]) -> None:
        self._run_dir = run_dir
        self._handlers = handlers
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Listen; replaces the socket of a killed gateway, but not that of a running one."""
        try:
            if _responds(self._run_dir):
                logger.error("control_start_failed", extra={"reason": "another gateway listens"})
                return
            (self._run_dir / _NAME).unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            with _short_path(self._run_dir) as path:
                listener.bind(path)
            (self._run_dir / _NAME).chmod(0o600)
            listener.listen(8)
        except OSError as failure:
            logger.error("control_start_failed", extra={"reason": str(failure)})  # noqa: TRY400
            return
        self._socket = listener
        threading.Thread(target=self._serve, args=(listener,), name="control", daemon=True).start()

    def stop(self) -> None:
        """Stop listening and remove the socket. Idempotent."""
        listener, self._socket = self._socket, None
        if listener is not None:
            (self._run_dir / _NAME).unlink(missing_ok=True)
            listener.shutdown(socket.SHUT_RDWR)  # ends the thread's `accept`
            listener.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed by `stop`
            threading.Thread(
                target=self._respond, args=(connection,), name="control", daemon=True
            ).start()

    def _respond(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_REQUEST_S)
            try:
                reply = self._run(_read_line(connection))
                connection.sendall(msgspec.json.encode(reply) + b"\n")
            except OSError:
                return  # the client is gone

    def _run(self, line: bytes) -> Reply:
        try:
            request = msgspec.json.decode(line, type=dict[str, object])
        except msgspec.DecodeError:
            return refusal("The request is not a JSON object.")
        handler = self._handlers.get(str(request.get("command")))
        if handler is None:
            return refusal("Unknown command.")
        try:
            return handler(request)
        except Exception:  # the root of a command: the client gets an error
            logger.exception("control_failed")
            return refusal("Internal error, see the gateway's log.")


def refusal(*errors: str) -> Reply:
    """Return the reply to a command that failed."""
    return {"ok": False, "errors": list(errors)}


def run_dir(data_dir: Path) -> Path:
    """Return the directory of files that exist only while a gateway runs."""
    return data_dir.absolute() / "run"


def send_command(data_dir: Path, command: Mapping[str, object], timeout_s: float) -> Reply:
    """
    Send a command to the running gateway of a data directory; return its reply.

    Raises:
        ControlError: No gateway runs there, or it did not respond in time.
    """
    directory = run_dir(data_dir)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            with _short_path(directory) as path:
                connection.connect(path)
            connection.sendall(msgspec.json.encode(command) + b"\n")
            return msgspec.json.decode(_read_line(connection), type=dict[str, object])
    except TimeoutError as failure:
        raise ControlError(f"The gateway did not respond within {timeout_s:g} s.") from failure
    except PermissionError as failure:
        raise ControlError(
            f"{directory / _NAME} belongs to another user: run the command as the gateway's user."
        ) from failure
    except (OSError, msgspec.DecodeError) as failure:
        raise ControlError(
            f"No gateway of this configuration runs on this machine ({directory / _NAME})."
        ) from failure


def _responds(directory: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        with _short_path(directory) as path:
            probe.connect(path)
        return True
    return False


@contextlib.contextmanager
def _short_path(directory: Path) -> Iterator[str]:
    """Provide a path of the socket that is within the kernel's limit of about 100 bytes."""
    if sys.platform != "linux":
        yield str(directory / _NAME)
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{_NAME}"
    finally:
        os.close(descriptor)


def _read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) <= _LARGEST_LINE:
        piece = connection.recv(65536)
        if not piece:
            break
        line += piece
    return line
