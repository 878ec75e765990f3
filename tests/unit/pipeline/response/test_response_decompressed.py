"""A compressed response on its way to a slow client: no more is inflated than is taken."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import zlib

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorKind, GatewayError
from gateway.upstream.decompress import DecompressedResponse
from tests.support.pipeline_fakes import FakeUpstreamResponse

MEBIBYTE = 1024 * 1024


class Taker:
    """A sink that pauses after each piece, as a relay does for a slow client."""

    def __init__(self, response: DecompressedResponse, *, slow: bool) -> None:
        self.body = b""
        self.pieces = 0
        self.end: object = None
        self._response = response
        self._slow = slow
        response.start(self)

    def body_chunk(self, chunk: bytes) -> None:
        assert self.end is None
        self.body += chunk
        self.pieces += 1
        if self._slow:
            self._response.pause()

    def body_end(self) -> None:
        assert self.end is None
        self.end = "end"

    def body_failed(self, error: GatewayError) -> None:
        assert self.end is None
        self.end = error.kind


async def test_paused_answer_inflates_no_further() -> None:
    """A bomb of a network read grows by one piece for each time the client takes one."""
    upstream = FakeUpstreamResponse()
    response = DecompressedResponse(upstream)
    taker = Taker(response, slow=True)

    await upstream.push(gzip.compress(bytes(8 * MEBIBYTE)))
    first = len(taker.body)
    for _ in range(3):
        response.resume()
        await asyncio.sleep(0)

    assert first == 256 * 1024
    assert (taker.pieces, len(taker.body)) == (4, MEBIBYTE)
    assert upstream.paused


async def test_resumed_answer_is_whole_before_its_end() -> None:
    """What waited is pushed before the upstream's response goes on."""
    body = bytes(range(256)) * 4096
    upstream = FakeUpstreamResponse()
    response = DecompressedResponse(upstream)
    taker = Taker(response, slow=True)

    await upstream.push(gzip.compress(body))
    while upstream.paused:
        response.resume()
        await asyncio.sleep(0)
    await upstream.end()

    assert (taker.body, taker.end) == (body, "end")


async def test_closed_answer_is_silent() -> None:
    """After `close` the sink gets nothing more, not even held bytes."""
    upstream = FakeUpstreamResponse()
    response = DecompressedResponse(upstream)
    taker = Taker(response, slow=True)
    await upstream.push(gzip.compress(bytes(MEBIBYTE)))

    response.resume()
    response.close()
    await asyncio.sleep(0)
    response.body_chunk(b"x")
    response.body_end()
    response.body_failed(GatewayError(ErrorKind.UPSTREAM_BROKEN, ""))

    assert (taker.pieces, taker.end) == (1, None)
    assert upstream.closed


async def test_pause_before_its_turn_keeps_what_waits() -> None:
    """A pause that follows a resume at once is obeyed."""
    upstream = FakeUpstreamResponse()
    response = DecompressedResponse(upstream)
    taker = Taker(response, slow=True)
    await upstream.push(gzip.compress(bytes(MEBIBYTE)))

    response.resume()
    response.pause()
    await asyncio.sleep(0)
    paused_at = taker.pieces
    response.resume()
    await asyncio.sleep(0)

    assert (paused_at, taker.pieces) == (1, 2)


async def test_damaged_answer_fails_once() -> None:
    """Nothing after the damage is delivered."""
    upstream = FakeUpstreamResponse()
    taker = Taker(DecompressedResponse(upstream), slow=False)

    await upstream.push(b"no gzip", b"at all")
    await upstream.fail(GatewayError(ErrorKind.UPSTREAM_TIMEOUT, ""))

    assert taker.end is ErrorKind.UPSTREAM_BROKEN


async def test_failure_of_the_upstream_is_passed_on() -> None:
    """A response that breaks off breaks off."""
    upstream = FakeUpstreamResponse()
    taker = Taker(DecompressedResponse(upstream), slow=False)

    await upstream.push(gzip.compress(b"abc")[:-4])
    await upstream.fail(GatewayError(ErrorKind.UPSTREAM_TIMEOUT, ""))

    assert taker.end is ErrorKind.UPSTREAM_TIMEOUT


async def test_bytes_after_the_coded_end_are_dropped() -> None:
    """They are not kept in memory either."""
    upstream = FakeUpstreamResponse()
    taker = Taker(DecompressedResponse(upstream), slow=False)

    await upstream.end(gzip.compress(b"abc"), bytes(MEBIBYTE))

    assert (taker.body, taker.end) == (b"abc", "end")


async def test_answer_read_whole_is_plain() -> None:
    """The other way to take it."""
    upstream = FakeUpstreamResponse(503, [(b"content-encoding", b"deflate")], zlib.compress(b"abc"))
    response = DecompressedResponse(upstream)

    assert (await response.read(100), response.status, response.headers) == (b"abc", 503, [])


@given(
    body=st.binary(max_size=2000),
    repeats=st.integers(1, 400),
    cuts=st.lists(st.integers(0, 3000), max_size=4),
    slow=st.booleans(),
)
async def test_any_answer_in_any_pieces_is_whole(
    body: bytes, repeats: int, cuts: list[int], slow: bool
) -> None:
    """However it is cut and however often it is paused, every byte comes once and in order."""
    plain = body * repeats
    coded = gzip.compress(plain)
    upstream = FakeUpstreamResponse()
    response = DecompressedResponse(upstream)
    taker = Taker(response, slow=slow)
    edges = sorted({0, len(coded), *(min(cut, len(coded)) for cut in cuts)})

    for start, end in itertools.pairwise(edges):
        while upstream.paused:
            response.resume()
            await asyncio.sleep(0)
        await upstream.push(coded[start:end])
    while upstream.paused:
        response.resume()
        await asyncio.sleep(0)
    await upstream.end()

    assert (taker.body, taker.end) == (plain, "end")
