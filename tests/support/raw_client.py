"""A client that sees every byte: HTTP/1.1 over a blocking socket, nothing added, nothing hidden."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

TIMEOUT_S = 20.0


class Answer(NamedTuple):
    """One response. `complete` is False when the connection broke inside of the body."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str | None, bytes]]:
        """The events of the body: name and data; comments are left out."""
        return [*events(self.body)]


def events(body: bytes) -> Iterator[tuple[str | None, bytes]]:
    """Yield name and data of each complete event with LF line ends."""
    for block in body.split(b"\n\n")[:-1]:
        name, data = None, []
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"event":
                name = value.strip().decode()
            elif field == b"data":
                data.append(value.removeprefix(b" "))
        if data:
            yield name, b"\n".join(data)


class Connection:
    """
    One connection to a server on this machine.

    Args:
        port: Where.
        receive_bytes: Size of the socket's receive buffer; None leaves the kernel's.
    """

    def __init__(self, port: int, *, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(TIMEOUT_S)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self._held = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def reset(self) -> None:
        """Close the connection with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def send(self, sent: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(sent)

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request and return its response; `_` in header names stands for `-`."""
        self.send(render(method, path, body, **headers))
        return self.answer(head_only=method == "HEAD")

    def read_head(self, *, skip_informational: bool = True) -> tuple[int, dict[str, str]]:
        """Return status and headers of the next response."""
        while True:
            head = self._until(b"\r\n\r\n").decode("latin-1")
            first, *lines = head.split("\r\n")
            status = int(first.split()[1])
            if status >= 200 or not skip_informational:
                break
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            if name:
                headers[name.lower()] = value.strip()
        return status, headers

    def answer(self, *, head_only: bool = False) -> Answer:
        """Read one whole response."""
        status, headers = self.read_head()
        if head_only or status in (204, 304):
            return Answer(status, headers, b"", complete=True)
        body, complete = self.read_rest(headers)
        return Answer(status, headers, body, complete)

    def read_chunk(self) -> bytes:
        """Return the next chunk of a chunked body; b"" at its end; EOFError when it breaks off."""
        size = int(self._until(b"\r\n").strip() or b"0", 16)
        return self._exactly(size + 2)[:-2]

    def read_rest(self, headers: dict[str, str]) -> tuple[bytes, bool]:
        """Return the rest of a body, and whether it came to its end."""
        parts: list[bytes] = []
        try:
            if "chunked" in headers.get("transfer-encoding", ""):
                while chunk := self.read_chunk():
                    parts.append(chunk)
                return b"".join(parts), True
            if "content-length" in headers:
                return self._exactly(int(headers["content-length"])), True
            while piece := self.socket.recv(65536):
                parts.append(piece)
            return self._held + b"".join(parts), True
        except (EOFError, ConnectionError) as broken:
            rest = broken.args[0] if isinstance(broken, EOFError) else b""
            return b"".join([*parts, rest]), False

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            self._more()
        found, _, self._held = self._held.partition(mark)
        return found + mark

    def _exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            self._more()
        found, self._held = self._held[:size], self._held[size:]
        return found

    def _more(self) -> None:
        piece = self.socket.recv(262_144)
        if not piece:
            raise EOFError(self._held)
        self._held += piece


def render(method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
    """Return a request as bytes, with a length if it has a body and no header says otherwise."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway.test"]
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        names.setdefault("content-type", "application/json")
        if "transfer-encoding" not in names:
            names.setdefault("content-length", str(len(body)))
    lines += [f"{name}: {value}" for name, value in names.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")
