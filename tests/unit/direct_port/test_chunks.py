"""Chunked request bodies."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.direct_port.chunks import MAX_OVERHEAD_BYTES, ChunkReader, MalformedChunksError

BODY = b"5\r\nhello\r\n1;a=b\r\n \r\n00F ; c\r\nfifteen letters\r\n0;z\r\nt: x\r\n\r\n"
SAID = b"hello fifteen letters"


def read(*pieces: bytes) -> tuple[bytes, ChunkReader]:
    """Return the body in pieces of what was received, and its reader."""
    reader = ChunkReader()
    return b"".join(piece for received in pieces for piece in reader.feed(received)), reader


@given(st.lists(st.integers(0, len(BODY))))
def test_body_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    """Sizes, line ends and trailers may be cut anywhere; what follows is not touched."""
    bounds = [0, *sorted(cuts), len(BODY)]
    pieces = [BODY[a:b] for a, b in pairwise(bounds)]
    pieces[-1] += b"GET / HTTP/1.1\r\n"
    if len(pieces[-1]) == 16:
        pieces[-2:] = [pieces[-2] + pieces[-1]]

    body, reader = read(*pieces)

    assert (body, reader.ended, reader.rest) == (SAID, True, b"GET / HTTP/1.1\r\n")


MALFORMED = {
    "no number": b"zz\r\n",
    "empty size": b"\r\n",
    "only an extension": b";a\r\n",
    "signed": b"+5\r\nhello\r\n",
    "prefixed": b"0x5\r\nhello\r\n",
    "underscore": b"1_0\r\n",
    "blank before": b" 5\r\nhello\r\n",
    "blank behind": b"5 \r\nhello\r\n",
    "size beyond 60 bits": b"1000000000000000\r\n",
    "size ends in LF": b"5\nhello\r\n0\r\n\r\n",
    "LF in an extension": b"5;a\nb\r\nhello\r\n",
    "CR in an extension": b"5;a\rb\r\nhello\r\n",
    "too long": b"5\r\nhello!\r\n",
    "chunk ends in LF": b"5\r\nhello\n0\r\n\r\n",
    "chunk ends in CR": b"5\r\nhello\r0\r\n\r\n",
    "trailer without a colon": b"0\r\nGET /admin HTTP\r\n\r\n",
    "trailer with NUL": b"0\r\na: \0\r\n\r\n",
    "endless line": b"5;" + b"a" * 5000,
    "endless size": b"0" * 5000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_chunks_are_refused(body: bytes) -> None:
    """Whether they arrive at once or byte by byte."""
    with pytest.raises(MalformedChunksError):
        read(body)
    with pytest.raises(MalformedChunksError):
        read(*(body[at : at + 1] for at in range(len(body))))


@pytest.mark.parametrize(
    "piece", [b"1;" + b"a" * 4000 + b"\r\nx\r\n", b"0\r\n" + b"a: b\r\n" * 20000]
)
def test_extensions_and_trailers_are_limited(piece: bytes) -> None:
    """They are discarded, so nothing else would end them."""
    with pytest.raises(MalformedChunksError, match="too large"):
        read(*[piece] * (2 + MAX_OVERHEAD_BYTES // len(piece)))
