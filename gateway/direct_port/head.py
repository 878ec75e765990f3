"""
Reads request heads and decides how a request's body is framed.

llhttp (through httptools) checks the syntax: no bare LF, no folded line, no space before a colon.
It gets exactly one head at a time, so nothing behind a head is ever read as part of it. The framing
is decided here (RFC 9112 6): anything that another server might read differently is refused,
because a proxy in front that disagrees lets one client's bytes become another client's request.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from gateway.protocols.codec.digits import MAX_DIGITS, read_digits

Headers = list[tuple[bytes, bytes]]

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 100
CHUNKED: Final = -1
"""The `length` of a body that is sent in chunks."""

_DECISIVE: Final = frozenset(
    (b"connection", b"content-length", b"expect", b"host", b"transfer-encoding")
)


class BadRequestError(Exception):
    """A request that is refused; the connection is closed, because its end is not known."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class RequestHead(NamedTuple):
    """A request head."""

    method: str
    path: bytes
    """As it was sent, without scheme, host and query."""
    query: bytes
    version: str
    """`1.0` or `1.1`."""
    headers: Headers
    """Names in lower case."""
    length: int
    """Of the body, or `CHUNKED`."""
    keep_alive: bool
    expects_continue: bool


def read_head(head: bytes) -> RequestHead:
    """
    Return the head that is the whole of `head`, its empty line included.

    Raises:
        BadRequestError: It is malformed, too long, or its framing is ambiguous.
    """
    if len(head) > MAX_HEAD_BYTES:
        raise head_too_large()
    events = _Events()
    parser = HttpRequestParser(events)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        pass  # upgrades and tunnels are never accepted: the request is served or refused as it is
    except HttpParserError as error:
        raise BadRequestError(400, str(error)) from None
    # llhttp reads on after an empty line: there must be nothing that it took for a next message.
    if events.heads != 1 or events.messages != 1:
        raise BadRequestError(400, "malformed request head")
    if len(events.headers) > MAX_HEADERS:
        raise BadRequestError(431, f"more than {MAX_HEADERS} headers")
    version: str = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise BadRequestError(505, "HTTP/1.1 is served here")
    path, _, query = _origin_form(b"".join(events.target)).partition(b"?")
    length, connection, expects_continue = _framing(version, events.headers)
    keep_alive = version == "1.1" and b"close" not in connection
    method: str = parser.get_method().decode("ascii")
    return RequestHead(
        method, path, query, version, events.headers, length, keep_alive, expects_continue
    )


def head_too_large() -> BadRequestError:
    """Return the error of a head that is too long."""
    return BadRequestError(431, f"request head larger than {MAX_HEAD_BYTES} bytes")


class _Events:
    """What the parser reports of a head."""

    __slots__ = ("headers", "heads", "messages", "target")

    def __init__(self) -> None:
        self.target: list[bytes] = []
        self.headers: Headers = []
        self.messages = 0
        self.heads = 0

    def on_message_begin(self) -> None:
        self.messages += 1

    def on_url(self, piece: bytes) -> None:
        self.target.append(piece)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.heads += 1


def _origin_form(target: bytes) -> bytes:
    """Return path and query of a request target; `*` as it is (RFC 9112 3.2)."""
    if target.startswith(b"/") or target == b"*":
        return target
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise BadRequestError(400, "the request target is not a path")
    starts = [at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0]
    origin = rest[min(starts) :] if starts else b""
    return origin if origin.startswith(b"/") else b"/" + origin


def _framing(version: str, headers: Headers) -> tuple[int, list[bytes], bool]:
    """Return the body's length, the options of `connection`, and whether 100 is waited for."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _DECISIVE:
            found.setdefault(name, []).append(value)
    hosts = found.get(b"host", ())
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise BadRequestError(400, "there must be one host header")
    lengths, codings = found.get(b"content-length", []), found.get(b"transfer-encoding", [])
    if codings and lengths:
        raise BadRequestError(400, "both content-length and transfer-encoding")
    length = 0
    if codings:
        if version != "1.1" or [each.lower() for each in codings] != [b"chunked"]:
            raise BadRequestError(400, "unsupported transfer-encoding; use chunked")
        length = CHUNKED
    elif lengths:
        read = read_digits(lengths[0]) if len(lengths) == 1 else None
        if read is None:
            raise BadRequestError(
                400, f"content-length is not one number of at most {MAX_DIGITS} digits"
            )
        length = read
    options = b",".join(found.get(b"connection", ())).lower().split(b",")
    expects = [each.lower() for each in found.get(b"expect", ())] == [b"100-continue"]
    return length, [each.strip() for each in options], expects and length != 0 and version == "1.1"
