"""Response heads."""

from __future__ import annotations

import pytest

from gateway.direct_port.response import response_head

DATE = b"date: Sun, 29 Nov 2026 13:00:00 GMT\r\n"


def test_head_of_a_whole_response() -> None:
    """The length is the application's."""
    head = response_head(200, [(b"content-length", b"5"), (b"x-a", b"b")], DATE, keep_alive=True)

    assert head.data == b"HTTP/1.1 200 OK\r\n%bcontent-length: 5\r\nx-a: b\r\n\r\n" % DATE
    assert (head.has_body, head.length, head.chunked, head.keep_alive) == (True, 5, False, True)


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (413, b"Content Too Large"),
        (414, b"URI Too Long"),
        (416, b"Range Not Satisfiable"),
        (422, b"Unprocessable Content"),
        (429, b"Too Many Requests"),
    ],
)
def test_phrase_is_that_of_the_standard(status: int, phrase: bytes) -> None:
    """Python has other ones before 3.13."""
    head = response_head(status, [(b"content-length", b"0")], DATE, keep_alive=True)

    assert head.data.startswith(b"HTTP/1.1 %d %b\r\n" % (status, phrase))


@pytest.mark.parametrize(
    ("method", "status", "version", "has_body", "chunked", "keep_alive"),
    [
        ("GET", 200, "1.1", True, True, True),
        ("GET", 200, "1.0", True, False, False),
        ("HEAD", 200, "1.1", False, False, True),
        ("POST", 204, "1.1", False, False, True),
        ("GET", 304, "1.1", False, False, True),
    ],
)
def test_body_without_a_length(
    method: str, status: int, version: str, has_body: bool, chunked: bool, keep_alive: bool
) -> None:
    """It is chunked; in HTTP/1.0 it ends with the connection."""
    head = response_head(status, [], DATE, method=method, version=version, keep_alive=True)

    assert (head.has_body, head.chunked, head.keep_alive) == (has_body, chunked, keep_alive)
    assert (b"transfer-encoding: chunked\r\n" in head.data) is chunked
    assert (b"connection: close\r\n" in head.data) is not keep_alive


def test_application_may_close_the_connection() -> None:
    """Its own framing and other options of the connection are not sent."""
    headers = [(b"connection", b"Close"), (b"transfer-encoding", b"gzip")]
    head = response_head(599, headers, DATE, keep_alive=True)

    assert not head.keep_alive
    assert head.data.startswith(b"HTTP/1.1 599 \r\n")
    assert head.data.count(b"connection:") == 1
    assert head.data.count(b"transfer-encoding:") == 1


def test_date_is_sent_once() -> None:
    """A relayed response has one already."""
    assert response_head(200, [(b"date", b"then")], DATE).data.count(b"date:") == 1


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\ny", b"a\ry", b"a\0"])
def test_control_character_is_refused(value: bytes) -> None:
    """It could forge a header or a response."""
    with pytest.raises(ValueError, match="control character"):
        response_head(200, [(b"x", value)], DATE)
