"""All kinds of HTTP/1.1 responses, as literal bytes, split in all ways."""

from __future__ import annotations

import asyncio
import itertools
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from tests.support.upstream_fakes import RecordingSink, Wire, a_request


class Case(NamedTuple):
    """What an upstream sends, and what comes of it."""

    name: str
    sent: bytes
    outcome: str
    """`complete`, or the kind of the error of the body or the head."""
    body: bytes = b""
    status: int = 200
    usable: bool = False
    """The connection is reused."""
    method: str = "POST"
    eof: bool = False
    """The upstream closes after the last byte."""


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BROKEN, MALFORMED = "upstream_broken", "upstream_malformed"

CASES = [
    # Content-length.
    Case("length", OK + b"Content-Length: 5\r\n\r\nhello", "complete", b"hello", usable=True),
    Case("length zero", OK + b"Content-Length: 0\r\n\r\n", "complete", usable=True),
    Case("length spaced", OK + b"content-length:  5 \t\r\n\r\nhello", "complete", b"hello",
         usable=True),
    Case("length short", OK + b"Content-Length: 5\r\n\r\nhell", BROKEN, b"hell", eof=True),
    Case("length, no body at all", OK + b"Content-Length: 5\r\n\r\n", BROKEN, eof=True),
    Case("length exceeded", OK + b"Content-Length: 5\r\n\r\nhelloX", "complete", b"hello"),
    Case("length exceeded by a line break", OK + b"Content-Length: 5\r\n\r\nhello\r\n", "complete",
         b"hello"),
    Case("length exceeded by a second response",
         OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 2\r\n\r\nno",
         "complete", b"ok"),
    Case("length zero exceeded", OK + b"Content-Length: 0\r\n\r\nX", "complete"),
    Case("length with closing", OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok",
         "complete", b"ok"),
    Case("length with closing in a list",
         OK + b"Content-Length: 2\r\nConnection: foo, Close\r\n\r\nok", "complete", b"ok"),
    Case("length with closing in a second header",
         OK + b"Connection: foo\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
         "complete", b"ok"),
    Case("length then close at once", OK + b"Content-Length: 2\r\n\r\nok", "complete", b"ok",
         eof=True),
    Case("two lengths", OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", MALFORMED),
    Case("the same length twice", OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
         MALFORMED),
    Case("length list", OK + b"Content-Length: 2, 2\r\n\r\nok", MALFORMED),
    Case("length negative", OK + b"Content-Length: -2\r\n\r\nok", MALFORMED),
    Case("length signed", OK + b"Content-Length: +2\r\n\r\nok", MALFORMED),
    Case("length hexadecimal", OK + b"Content-Length: 0x2\r\n\r\nok", MALFORMED),
    Case("length empty", OK + b"Content-Length:\r\n\r\nok", MALFORMED),
    Case("length beyond 64 bits", OK + b"Content-Length: 18446744073709551616\r\n\r\nok",
         MALFORMED),
    # Chunked.
    Case("chunked", CHUNKED + b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "complete", b"hello!",
         usable=True),
    Case("chunked, empty", CHUNKED + b"0\r\n\r\n", "complete", usable=True),
    Case("chunked, coding in capitals", OK + b"transfer-encoding: Chunked\r\n\r\n0\r\n\r\n",
         "complete", usable=True),
    Case("chunked, extension", CHUNKED + b"5;a=b;c\r\nhello\r\n0;z\r\n\r\n", "complete", b"hello",
         usable=True),
    Case("chunked, hexadecimal", CHUNKED + b"00a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
         "complete", b"01234567890123456789", usable=True),
    Case("chunked, trailers", CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\nExpires: now\r\n\r\n",
         "complete", b"ok", usable=True),
    Case("chunked, CRLF inside", CHUNKED + b"6\r\n\r\n\r\n0\r\r\n0\r\n\r\n", "complete",
         b"\r\n\r\n0\r", usable=True),
    Case("chunked with closing",
         OK + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
         "complete", b"ok"),
    Case("chunked with closing, exceeded",
         OK + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\nXYZ",
         "complete", b"ok"),
    Case("chunked, exceeded", CHUNKED + b"2\r\nok\r\n0\r\n\r\nX", "complete", b"ok"),
    Case("chunked, exceeded by a second response",
         CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nno",
         "complete", b"ok"),
    Case("chunked, exceeded by a switch",
         CHUNKED + b"2\r\nok\r\n0\r\n\r\n"
         b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "complete", b"ok"),
    Case("chunked, cut in a chunk", CHUNKED + b"5\r\nhel", BROKEN, b"hel", eof=True),
    Case("chunked, cut between chunks", CHUNKED + b"5\r\nhello\r\n", BROKEN, b"hello", eof=True),
    Case("chunked, cut before the last line", CHUNKED + b"2\r\nok\r\n0\r\n", BROKEN, b"ok",
         eof=True),
    Case("chunked, cut in a trailer", CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n", BROKEN, b"ok",
         eof=True),
    Case("chunked, bad size", CHUNKED + b"2\r\nok\r\nzz\r\n", BROKEN, b"ok"),
    Case("chunked, chunk longer than said", CHUNKED + b"2\r\nokay\r\n0\r\n\r\n", BROKEN, b"ok"),
    Case("chunked, bare line feeds", CHUNKED + b"2\nok\n0\n\n", BROKEN),
    Case("chunked, size beyond 64 bits", CHUNKED + b"fffffffffffffffff\r\nok", BROKEN),
    Case("chunked and a length",
         OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", MALFORMED),
    Case("a length and chunked",
         OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    Case("chunked twice",
         OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         MALFORMED),
    Case("another coding", OK + b"Transfer-Encoding: gzip\r\n\r\nx", MALFORMED),
    Case("another coding, chunked", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
         MALFORMED),
    # Until the end of the connection.
    Case("until close", OK + b"\r\nhello", "complete", b"hello", eof=True),
    Case("until close, empty", OK + b"\r\n", "complete", eof=True),
    Case("until close though kept alive", OK + b"Connection: keep-alive\r\n\r\nhello", "complete",
         b"hello", eof=True),
    # HTTP/1.0.
    Case("1.0, length", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "complete", b"ok"),
    Case("1.0, length, kept alive",
         b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\nok",
         "complete", b"ok", usable=True),
    Case("1.0, until close", b"HTTP/1.0 200 OK\r\n\r\nok", "complete", b"ok", eof=True),
    Case("1.0, chunked",
         b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"2\r\nok\r\n0\r\n\r\n", "complete", b"ok"),
    # Without a body.
    Case("HEAD, length", OK + b"Content-Length: 5\r\n\r\n", "complete", usable=True,
         method="HEAD"),
    Case("HEAD, chunked", CHUNKED, "complete", usable=True, method="HEAD"),
    Case("HEAD, neither", OK + b"\r\n", "complete", usable=True, method="HEAD"),
    Case("HEAD with a body", OK + b"Content-Length: 5\r\n\r\nhello", "complete", method="HEAD"),
    Case("204", b"HTTP/1.1 204 No Content\r\n\r\n", "complete", status=204, usable=True),
    Case("204, length", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "complete",
         status=204, usable=True),
    Case("204, chunked", b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "complete", status=204),
    Case("304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "complete", status=304,
         usable=True),
    # 1xx.
    Case("100", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", "complete",
         b"ok", usable=True),
    Case("103 and 102",
         b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 P\r\n\r\n"
         + OK + b"Content-Length: 2\r\n\r\nok", "complete", b"ok", usable=True),
    Case("100 with a length",
         b"HTTP/1.1 100 C\r\nContent-Length: 9\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
         "complete", b"ok", usable=True),
    Case("100 and nothing more", b"HTTP/1.1 100 Continue\r\n\r\n", BROKEN, status=0, eof=True),
    Case("101", b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nxx",
         MALFORMED),
    Case("101 without upgrade", b"HTTP/1.1 101 Switching\r\n\r\n", MALFORMED),
    Case("an offer to upgrade",
         OK + b"Upgrade: h2,h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok",
         "complete", b"ok", usable=True),
    # Other statuses.
    Case("429", b"HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n\r\nno", "complete", b"no",
         status=429, usable=True),
    Case("599 without reason", b"HTTP/1.1 599\r\nContent-Length: 0\r\n\r\n", "complete",
         status=599, usable=True),
    Case("600", b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n", MALFORMED),
    Case("99", b"HTTP/1.1 99 Odd\r\nContent-Length: 0\r\n\r\n", MALFORMED),
    Case("000", b"HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n", MALFORMED),
    # Heads that are none.
    Case("empty lines first", b"\r\n\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", "complete",
         b"ok", usable=True),
    Case("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n", MALFORMED),
    Case("a request", b"GET / HTTP/1.1\r\n\r\n", MALFORMED),
    Case("HTTP/2", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", MALFORMED),
    Case("HTTP/0.9", b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n", MALFORMED),
    Case("line feeds only", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", MALFORMED),
    Case("space before the colon", OK + b"Foo : bar\r\n\r\n", MALFORMED),
    Case("folded header", OK + b"Foo: bar\r\n baz\r\n\r\n", MALFORMED),
    Case("NUL in a header", OK + b"Foo: b\0r\r\n\r\n", MALFORMED),
    Case("a TLS alert", b"\x15\x03\x01\x00\x02\x02\x46", MALFORMED),
    Case("nothing", b"", BROKEN, eof=True),
    Case("half a head", OK + b"Content-Le", BROKEN, eof=True),
    # Size of the head.
    Case("head at the limit",
         OK + b"X: " + b"x" * (65_536 - len(OK) - 26) + b"\r\nContent-Length: 0\r\n\r\n",
         "complete", usable=True),
    Case("head over the limit",
         OK + b"X: " + b"x" * (65_536 - len(OK) - 25) + b"\r\nContent-Length: 0\r\n\r\n",
         MALFORMED),
    Case("head without end", OK + b"X: x\r\n" * 20_000, MALFORMED),
    Case("1xx without end", b"HTTP/1.1 103 E\r\n\r\n" * 5_000, MALFORMED),
    Case("empty lines without end", b"\r\n" * 40_000, MALFORMED),
    Case("chunk extension without end", CHUNKED + b"5;" + b"x" * 140_000, BROKEN),
    Case("trailers without end", CHUNKED + b"0\r\n" + b"X: x\r\n" * 23_000, BROKEN),
]  # fmt: skip

SHORT = [case for case in CASES if len(case.sent) < 1000]


async def play(case: Case, pieces: list[bytes]) -> Case:
    """Send the case in these pieces, each in a network read of its own, and note what came."""
    wire = Wire()
    await wire.ask(a_request(case.method))
    assert wire.task is not None
    sink = RecordingSink()
    started = False
    for piece in pieces:
        wire.feed(piece)
        await asyncio.sleep(0)
        if wire.task.done() and not started and wire.task.exception() is None:
            started = True
            wire.task.result().start(sink)
            await asyncio.sleep(0)
    if case.eof:
        wire.hang_up()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    status, outcome = case.status, "unfinished"
    if wire.task.done():
        try:
            response = wire.task.result()
            if not started:
                response.start(sink)
                await asyncio.sleep(0)
            status, outcome = response.status, sink.end
        except GatewayError as error:
            outcome = error.kind.value
    else:
        wire.task.cancel()
    usable = not wire.transport.aborted
    assert wire.pool.lost_count == (not usable)
    return case._replace(outcome=outcome, body=sink.body, status=status, usable=usable)


def cut(sent: bytes, cuts: list[int]) -> list[bytes]:
    """Return the bytes between the cuts; no piece is empty."""
    edges = sorted({0, len(sent), *cuts})
    return [sent[a:b] for a, b in itertools.pairwise(edges)]


def name(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=name)
async def test_answer_in_one_read_comes_to_its_outcome(case: Case) -> None:
    """A response in one read yields its status, its body and its end."""
    assert await play(case, [case.sent] if case.sent else []) == case


@pytest.mark.parametrize("case", SHORT, ids=name)
async def test_answer_byte_by_byte_comes_to_the_same_outcome(case: Case) -> None:
    """A response in single bytes yields the same as in one read."""
    assert await play(case, [bytes((byte,)) for byte in case.sent]) == case


@pytest.mark.parametrize("case", [case for case in CASES if case not in SHORT], ids=name)
@pytest.mark.parametrize("size", [997, 16_384])
async def test_long_answer_in_blocks_comes_to_the_same_outcome(case: Case, size: int) -> None:
    """A limit on bytes does not depend on how they are cut."""
    blocks = [case.sent[at : at + size] for at in range(0, len(case.sent), size)]

    assert await play(case, blocks) == case


@given(st.data())
def test_answer_cut_anywhere_comes_to_the_same_outcome(data: st.DataObject) -> None:
    """Any split of a response yields the same outcome."""
    case = data.draw(st.sampled_from(SHORT))
    cuts = data.draw(st.lists(st.integers(0, len(case.sent)), max_size=12))

    assert asyncio.run(play(case, cut(case.sent, cuts))) == case


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8), st.lists(st.integers(0, 2000)))
def test_chunked_body_cut_anywhere_is_conserved(parts: list[bytes], cuts: list[int]) -> None:
    """The body equals the content of the chunks, however the transcript is split."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    sent = CHUNKED + chunks + b"0\r\n\r\n"
    case = Case("any", sent, "complete", b"".join(parts), usable=True)

    assert asyncio.run(play(case, cut(sent, [at for at in cuts if at < len(sent)]))) == case


@given(st.binary(max_size=300))
def test_garbage_ends_in_an_error_of_the_port(garbage: bytes) -> None:
    """Arbitrary bytes raise only the documented errors."""
    case = Case("garbage", garbage, "", eof=True)

    outcome = asyncio.run(play(case, [garbage] if garbage else [])).outcome

    assert outcome in (BROKEN, MALFORMED)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_garbage_in_chunks_ends_the_body(garbage: bytes, cuts: list[int]) -> None:
    """A body of garbage chunks ends, completely or broken, and raises nothing."""
    sent = CHUNKED + garbage
    case = Case("garbage", sent, "", eof=True)

    outcome = asyncio.run(play(case, cut(sent, [at for at in cuts if at < len(sent)]))).outcome

    assert outcome in (BROKEN, "complete")
