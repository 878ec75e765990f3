"""Request heads: what is read, and what is refused because others might read it otherwise."""

from __future__ import annotations

import pytest

from gateway.direct_port.head import CHUNKED, MAX_HEADERS, BadRequestError, read_head

POST = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n%b\r\n"


def refusal(head: bytes) -> int:
    """Return the status with which a head is refused."""
    with pytest.raises(BadRequestError) as error:
        read_head(head)
    return error.value.status


def test_head_is_read() -> None:
    """Names are in lower case, values without white space around them, order and repeats kept."""
    head = read_head(
        b"POST /v1/chat/completions?a=1&b=%2F HTTP/1.1\r\nHost: gate\r\nX-One:  a b \t\r\n"
        b"x-ONE:\r\nContent-Length: 17\r\n\r\n"
    )

    assert (head.method, head.path, head.query) == ("POST", b"/v1/chat/completions", b"a=1&b=%2F")
    assert head.headers == [
        (b"host", b"gate"),
        (b"x-one", b"a b"),
        (b"x-one", b""),
        (b"content-length", b"17"),
    ]
    assert (head.version, head.length, head.keep_alive) == ("1.1", 17, True)
    assert not head.expects_continue


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        (b"", 0),
        (b"Content-Length: 0\r\n", 0),
        (b"Content-Length: 007\r\n", 7),
        (b"Transfer-Encoding: chunked\r\n", CHUNKED),
        (b"transfer-encoding: CHUNKED\r\n", CHUNKED),
    ],
)
def test_body_has_one_length(lines: bytes, length: int) -> None:
    """A number, chunks, or none."""
    assert read_head(POST % lines).length == length


AMBIGUOUS = {
    "both": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "both, the other way": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "one length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "list of lengths": b"Content-Length: 5, 5\r\n",
    "signed": b"Content-Length: +5\r\n",
    "negative": b"Content-Length: -1\r\n",
    "hexadecimal": b"Content-Length: 0x5\r\n",
    "blank inside": b"Content-Length: 5 0\r\n",
    "empty length": b"Content-Length:\r\n",
    "beyond 64 bits": b"Content-Length: 99999999999999999999\r\n",
    "another coding": b"Transfer-Encoding: gzip\r\n",
    "another coding first": b"Transfer-Encoding: gzip, chunked\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, gzip\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "misspelt": b"Transfer-Encoding: xchunked\r\n",
    "quoted": b'Transfer-Encoding: "chunked"\r\n',
    "vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "blank before the colon": b"Transfer-Encoding : chunked\r\n",
    "folded": b"X: a\r\n Transfer-Encoding: chunked\r\n",
    "folded value": b"Transfer-Encoding:\r\n chunked\r\n",
    "bare LF": b"X: a\nTransfer-Encoding: chunked\r\n",
    "bare CR": b"X: a\rTransfer-Encoding: chunked\r\n",
    "NUL": b"X: a\0b\r\n",
    "no name": b": a\r\n",
    "no colon": b"chunked\r\n",
    "second host": b"Host: y\r\n",
    "end by bare LF": b"X: a\r\n\nGET /admin HTTP/1.1\r\nHost: x\r\n",
}


@pytest.mark.parametrize("lines", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_head_is_refused(lines: bytes) -> None:
    """No guess: a proxy in front that reads it otherwise would let a request be smuggled in."""
    assert refusal(POST % lines) == 400


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET http:x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT gate:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (b"NONSENSE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * MAX_HEADERS + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\na: " + b"b" * 65536 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_request_is_refused(head: bytes, status: int) -> None:
    """With a status that says whose fault it is."""
    assert refusal(head) == status


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a/../b//c;d", b"/a/../b//c;d", b""),
        (b"//admin/accounts", b"//admin/accounts", b""),
        (b"/%61dmin?x?y", b"/%61dmin", b"x?y"),
        (b"http://gate:80/a?b", b"/a", b"b"),
        (b"HTTPS://gate", b"/", b""),
        (b"http://gate?b", b"/", b"b"),
        (b"/http://gate/a", b"/http://gate/a", b""),
    ],
)
def test_path_is_as_it_was_sent(target: bytes, path: bytes, query: bytes) -> None:
    """Nothing is decoded or shortened: a proxy in front that blocks a path saw the same bytes."""
    head = read_head(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)

    assert (head.path, head.query) == (path, query)


def test_asterisk_is_a_target() -> None:
    """OPTIONS of the whole server."""
    assert read_head(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").path == b"*"


@pytest.mark.parametrize(
    ("version", "lines", "keep_alive"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: TE, Close\r\n", False),
        (b"1.1", b"Connection: TE\r\nConnection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", False),
    ],
)
def test_connection_is_kept_unless_a_side_closes_it(
    version: bytes, lines: bytes, keep_alive: bool
) -> None:
    """HTTP/1.0 is always closed."""
    head = b"GET / HTTP/%b\r\nHost: x\r\n%b\r\n" % (version, lines)

    assert read_head(head).keep_alive is keep_alive


@pytest.mark.parametrize("lines", [b"", b"Content-Length: 5\r\n"])
def test_upgrade_is_ignored(lines: bytes) -> None:
    """The request is read as if it had not asked; a body stays a body."""
    wish = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    head = read_head(POST % (wish + lines))

    assert head.length == (5 if lines else 0)
    assert (b"upgrade", b"websocket") in head.headers


def test_client_may_wait_for_100() -> None:
    """Only if it announces a body."""
    assert read_head(POST % b"Expect: 100-Continue\r\nContent-Length: 5\r\n").expects_continue
    assert not read_head(POST % b"Expect: 100-continue\r\n").expects_continue
