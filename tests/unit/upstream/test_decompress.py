"""Responses that an upstream compressed although it was asked not to."""

from __future__ import annotations

import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorKind, GatewayError
from gateway.ports import BodySink, Headers
from gateway.upstream.decompress import decompress


class Coded:
    """A response with a fixed body, pushed in given pieces."""

    def __init__(self, coding: bytes, pieces: list[bytes]) -> None:
        self.status = 200
        self.headers: Headers = [(b"content-type", b"text/plain"), (b"content-encoding", coding)]
        self.closed = False
        self._pieces = pieces

    @property
    def complete(self) -> bool:
        return True

    def start(self, sink: BodySink) -> None:
        for piece in self._pieces:
            sink.body_chunk(piece)
        sink.body_end()

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    async def read(self, limit_bytes: int) -> bytes:
        return b"".join(self._pieces)


class Heard:
    """A sink that records its calls."""

    def __init__(self) -> None:
        self.body = b""
        self.end: object = None

    def body_chunk(self, chunk: bytes) -> None:
        self.body += chunk

    def body_end(self) -> None:
        self.end = "end"

    def body_failed(self, error: GatewayError) -> None:
        self.end = error.kind


@given(body=st.binary(max_size=5000), cuts=st.lists(st.integers(0, 5000), max_size=5))
def test_inflated_body_cut_anywhere_is_whole_again(body: bytes, cuts: list[int]) -> None:
    """Any split of a gzip body gives the plain bytes and a clean end."""
    coded = gzip.compress(body)
    edges = [0, *sorted(min(cut, len(coded)) for cut in cuts), len(coded)]
    pieces = [coded[a:b] for a, b in itertools.pairwise(edges)]
    heard = Heard()

    decompress(Coded(b"gzip", pieces)).start(heard)

    assert (heard.body, heard.end) == (body, "end")


def test_inflated_body_truncated_is_a_failure() -> None:
    """A compressed body that ends early never ends cleanly."""
    heard = Heard()

    decompress(Coded(b"gzip", [gzip.compress(b"x" * 1000)[:-9]])).start(heard)

    assert heard.end is ErrorKind.UPSTREAM_BROKEN


async def test_inflated_read_beyond_the_limit_is_refused() -> None:
    """A small body that would grow beyond the limit is not held."""
    response = decompress(Coded(b"deflate", [zlib.compress(b"\0" * 1_000_000)]))

    with pytest.raises(GatewayError) as caught:
        await response.read(10_000)

    assert caught.value.kind is ErrorKind.UPSTREAM_BROKEN


def test_unknown_coding_is_refused_and_closed() -> None:
    """A response in an unknown content coding is refused and its connection closed."""
    coded = Coded(b"br", [b"x"])

    with pytest.raises(GatewayError) as caught:
        decompress(coded)

    assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED
    assert coded.closed
