"""Writes response heads, and decides how a response's body is framed (RFC 9112 6)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, NamedTuple

from gateway.direct_port.head import Headers
from gateway.protocols.codec.digits import read_digits

_PHRASES: Final = {each.value: each.phrase for each in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
"""The phrases of RFC 9110, which Python has since 3.13."""
_STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode()) for status, phrase in _PHRASES.items()
}


class ResponseHead(NamedTuple):
    """A response head, and what follows it."""

    data: bytes
    has_body: bool
    length: int | None
    """Of the body; None: it is chunked, or ends with the connection."""
    chunked: bool
    keep_alive: bool


def plain_response(status: int, text: str, date: bytes) -> bytes:
    """Return a whole response, after which the connection is closed."""
    body = f"{text}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    return response_head(status, headers, date).data + body


def response_head(
    status: int,
    headers: Headers,
    date: bytes,
    *,
    method: str = "GET",
    version: str = "1.1",
    keep_alive: bool = False,
) -> ResponseHead:
    """
    Return a response's head. The connection is closed after it unless `keep_alive`.

    Args:
        status: 200 to 599.
        headers: Names in lower case. Without `content-length` the body is chunked.
        date: The line of the header `date`.
        method: Of the request.
        version: Of the request; HTTP/1.0 knows no chunks, so there the body ends the connection.
        keep_alive: Whether the connection may serve another request; `connection: close` among
            the headers overrules it.

    Raises:
        ValueError: A header contains a control character, which could forge another one.
    """
    length: int | None = None
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, date]
    for name, value in headers:
        if name == b"connection":
            keep_alive = keep_alive and b"close" not in value.lower()
            continue
        if name == b"transfer-encoding":
            continue
        if name == b"content-length":
            length = read_digits(value)
        elif name == b"date":
            lines[1] = b""
        lines.append(b"%b: %b\r\n" % (name, value))
    has_body = method != "HEAD" and status not in (204, 304)
    chunked = has_body and length is None and version == "1.1"
    if chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    elif has_body and length is None:
        keep_alive = False
    if not keep_alive:
        lines.append(b"connection: close\r\n")
    lines.append(b"\r\n")
    data = b"".join(lines)
    breaks = sum(map(bool, lines))
    if data.count(b"\n") != breaks or data.count(b"\r") != breaks or b"\0" in data:
        raise ValueError("a control character in a response head")
    return ResponseHead(data, has_body, length if has_body else 0, chunked, keep_alive)
