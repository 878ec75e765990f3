"""
Message heads of HTTP/1.1: writes request heads, reads response heads, and frames bodies.

This module does no I/O. llhttp (through httptools) checks the syntax of a response head; the end of
its body is determined here, since it depends on the request's method (RFC 9112 6.3):

1. HEAD, 204, 304: no body, regardless of the headers.
2. `transfer-encoding: chunked`: chunks. Other codings are rejected, since none is offered.
3. `content-length`: that many bytes.
4. Neither: everything until the connection closes.

Both 2 and 3, two lengths, or an invalid length make the head malformed: guessing could mix up one
response with the next.
"""

from __future__ import annotations

from typing import ClassVar, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.ports import Headers, UpstreamRequest
from gateway.protocols.codec.digits import MAX_DIGITS, read_digits
from gateway.upstream.http1.body_plan import BodyPlan, Framing

HEAD_LIMIT_BYTES: Final = 64 * 1024
"""Limit for all heads of a response, 1xx included; also for chunk extensions and trailers."""

_HEAD_END: Final = b"\r\n\r\n"
_DECISIVE: Final = frozenset(
    (b"connection", b"content-length", b"keep-alive", b"transfer-encoding"),
)
_BODY_METHODS: Final = frozenset(("POST", "PUT", "PATCH"))


_NO_PLAN: Final = BodyPlan(Framing.NONE, 0, keep_alive=False, idle_hint_s=None)


class MalformedHeadError(Exception):
    """The response head is not valid HTTP/1.x, or ambiguous. The message gives the reason."""


def start_request_head(method: str, path: str, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """
    Return the request line and headers, which `end_request_head` completes for each body.

    Raises:
        ValueError: They contain a control character, which could forge a header, or the path
            contains a space. The message does not repeat the value.
    """
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), path.encode("ascii"))]
    lines += [b"%b: %b" % header for header in headers]
    lines.append(b"")
    start = b"\r\n".join(lines)
    breaks = len(lines) - 1
    if start.count(b"\n") != breaks or start.count(b"\r") != breaks or b"\0" in start:
        raise ValueError("a control character in a request head")
    if " " in path:
        raise ValueError("a space in a request path")
    return start


def request_head(request: UpstreamRequest) -> bytes:
    """
    Return a request's head, ready to send.

    Raises:
        ValueError: As `start_request_head`.
    """
    start = request.head or start_request_head(request.method, request.path, request.headers)
    return end_request_head(start, request.method, len(request.body))


def end_request_head(start: bytes, method: str, body_size: int) -> bytes:
    """
    Return a request head with its content-length, ready to send.

    `content-length` is written for every body, and as 0 for an empty POST, PUT or PATCH.
    """
    if body_size or method in _BODY_METHODS:
        return b"%bcontent-length: %d\r\n\r\n" % (start, body_size)
    return start + b"\r\n"


class MalformedChunksError(Exception):
    """A chunked body is malformed. The message gives the reason."""

    def __init__(self, why: str, chunk: bytes) -> None:
        super().__init__(why)
        self.chunk = chunk
        """The body bytes of the same read before the error."""


class HeadReader:
    """
    Reads the head of the final response from the bytes of one connection.

    `feed` accepts bytes split anywhere and skips 1xx heads. Once it returns bytes, `status`,
    `headers` and `plan` are set, and `decode_chunked` decodes a chunked body. The cost is O(bytes);
    a value split over many reads is copied once per read, within the limit.
    """

    __slots__ = (
        "_collected",
        "_feed",
        "_final_pieces",
        "_head_bytes",
        "_method",
        "_parser",
        "_pieces",
        "_tail",
        "body_ended",
        "headers",
        "on_body",
        "overhead_bytes",
        "plan",
        "status",
        "surplus",
    )  # fmt: skip
    # Asked for by mypyc, which lets no other attribute be deleted.
    __deletable__: ClassVar = ["_parser", "_feed"]

    def __init__(self, method: str) -> None:
        self._method = method
        self._tail = b""
        self._head_bytes = 0
        self.status = 0
        self.plan = _NO_PLAN
        self._pieces: list[bytes] = []
        # Called by the parser with body bytes; a bound builtin saves a Python frame.
        self.on_body = self._pieces.append
        self._final_pieces = 0
        self.surplus = False
        """Bytes followed the end of the body."""
        self.overhead_bytes = 0
        """Consecutive bytes without body data, as in trailers. Set by the connection."""
        self._reset()

    def _reset(self) -> None:
        self.headers: Headers = []
        self._collected = False
        self.body_ended = False
        self._parser = HttpResponseParser(self)
        self._feed = self._parser.feed_data

    def feed(self, received: bytes) -> bytes | None:
        """
        Return what follows the final head in `received`, or None while the head is incomplete.

        Raises:
            MalformedHeadError: The head is invalid, larger than `HEAD_LIMIT_BYTES`, a 101, or its
                body's end is ambiguous.
        """
        rest = received
        while rest:
            end = self._find_end(rest)
            head = rest if end is None or end == len(rest) else rest[:end]
            self._head_bytes += len(head)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                raise MalformedHeadError(f"head larger than {HEAD_LIMIT_BYTES} bytes")
            self._parse(head)
            if end is None:
                return None
            rest = rest[end:]
            if not self._collected:
                continue
            if self._finish_head():
                return rest
            self._reset()
        return None

    def _find_end(self, received: bytes) -> int | None:
        """Return the offset after the empty line, which may have begun in an earlier read."""
        tail = self._tail
        window = tail + received if tail else received
        found = window.find(_HEAD_END)
        if found < 0:
            self._tail = window[-3:]
            return None
        self._tail = b""
        return found + len(_HEAD_END) - len(tail)

    def _parse(self, head: bytes) -> None:
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade as error:
            raise MalformedHeadError("protocol switch was not requested") from error
        except HttpParserError as error:
            raise MalformedHeadError(str(error)) from error

    def _finish_head(self) -> bool:
        """Plan the body; return False for a 1xx head, which another one follows."""
        status = self._parser.get_status_code()
        if not 100 <= status <= 599 or status == 101:
            raise MalformedHeadError(f"status {status}")
        if status < 200:
            return False
        self.status = status
        version = self._parser.get_http_version()
        self.plan = plan_body(self._method, status, version, self.headers)
        self.body_ended = False
        return True

    @property
    def begun(self) -> bool:
        """Whether any byte of a response has been received."""
        return self._head_bytes > 0

    def decode_chunked(self, received: bytes) -> bytes:
        """
        Return the body bytes in `received`, joined; updates `body_ended` and `surplus`.

        Bytes after the body are never returned. Empty lines after it do not count as surplus, since
        HTTP/1.1 parsers skip them (RFC 9112 2.2).

        Raises:
            MalformedChunksError: The chunks are malformed; holds the body bytes before the error.
        """
        broken: Exception | None = None
        try:
            self._feed(received)
        except (HttpParserError, HttpParserUpgrade) as error:
            broken = error
        pieces = self._pieces
        if self.body_ended:
            self.surplus = self.surplus or broken is not None
            del pieces[self._final_pieces :]
        chunk = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if broken is not None and not self.body_ended:
            raise MalformedChunksError(str(broken), chunk) from broken
        return chunk

    def detach(self) -> None:
        """Drop the parser, which refers back to this object, to break the reference cycle."""
        del self._parser
        del self._feed

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header and ignore trailers; called by the parser."""
        if not self._collected:
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Mark the head as complete; called by the parser."""
        self._collected = True

    def on_message_begin(self) -> None:
        """Detect bytes after the body; called by the parser."""
        if self.body_ended:
            self.surplus = True

    def on_message_complete(self) -> None:
        """Record where the body ends among the pieces; called by the parser."""
        if not self.body_ended:
            self.body_ended = True
            self._final_pieces = len(self._pieces)


def plan_body(method: str, status: int, version: str, headers: Headers) -> BodyPlan:
    """
    Return what follows a final response head, by the rules at the top of this module.

    Args:
        method: Method of the request.
        status: 200 to 599.
        version: `1.0` or `1.1`, from the response.
        headers: Names in lower case.

    Raises:
        MalformedHeadError: Another version, or an ambiguous or unknown framing.
    """
    if version not in ("1.1", "1.0"):
        raise MalformedHeadError(f"HTTP version {version}")
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    idle_hint_s: float | None = None
    for name, value in headers:
        if name not in _DECISIVE:
            continue
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"connection":
            connection += _tokens(value)
        else:
            idle_hint_s = _idle_hint(value)
    keep_alive = b"close" not in connection and (version == "1.1" or b"keep-alive" in connection)
    framing, length = _framing(method, status, lengths, codings)
    if framing is Framing.UNTIL_CLOSE or (codings and version == "1.0"):
        keep_alive = False
    return BodyPlan(framing, length, keep_alive, idle_hint_s)


def _framing(
    method: str, status: int, lengths: list[bytes], codings: list[bytes]
) -> tuple[Framing, int]:
    if codings and lengths:
        raise MalformedHeadError("both content-length and transfer-encoding")
    if codings and codings != [b"chunked"]:
        raise MalformedHeadError("unsupported transfer coding")
    length = read_digits(lengths[0]) if len(lengths) == 1 else None
    if lengths and length is None:
        raise MalformedHeadError(f"content-length is not one number of at most {MAX_DIGITS} digits")
    if method == "HEAD" or status in (204, 304):
        return Framing.NONE, 0
    if codings:
        return Framing.CHUNKED, 0
    if length is not None:
        return (Framing.LENGTH, length) if length else (Framing.NONE, 0)
    return Framing.UNTIL_CLOSE, 0


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]


def _idle_hint(value: bytes) -> float | None:
    """Return the seconds of `timeout=5, max=100`, or None."""
    for token in _tokens(value):
        name, _, number = token.partition(b"=")
        if name == b"timeout" and number.isdigit() and len(number) < 10:
            return float(number)
    return None
