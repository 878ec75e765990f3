"""The client's body: bounded in size and time, and read away before an early response."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.channel import ClientChannel
from gateway.ports import Headers
from tests.support.pipeline_fakes import FakeClient

CHAT = "/v1/chat/completions"


def length(size: int) -> Headers:
    """The header that declares a body."""
    return [(b"content-length", str(size).encode())]


async def read(channel: ClientChannel, limit: int = 100, timeout_s: float = 5.0) -> bytes:
    """Read the body in the running task."""
    task = asyncio.current_task()
    assert task is not None
    return await channel.read_body(limit, timeout_s, task)


async def failure(channel: ClientChannel, limit: int = 100, timeout_s: float = 5.0) -> ErrorKind:
    """The kind of the error that reading ends with."""
    with pytest.raises(GatewayError) as caught:
        await read(channel, limit, timeout_s)
    return caught.value.kind


@pytest.mark.parametrize("pieces", [(b"abc",), (b"a", b"", b"bc"), (b"",)])
async def test_body_in_any_pieces_is_whole(pieces: tuple[bytes, ...]) -> None:
    """The pieces are joined in order."""
    channel = FakeClient(CHAT, *pieces).channel()

    assert await read(channel) == b"".join(pieces)


async def test_body_of_declared_length_needs_no_last_piece() -> None:
    """When all bytes are there the server's closing message is not waited for."""
    client = FakeClient(CHAT, headers=length(3))
    reading = asyncio.ensure_future(read(client.channel()))
    await asyncio.sleep(0)

    client.say(b"abc", more=True)

    assert await reading == b"abc"


async def test_body_declared_too_large_is_refused_unread() -> None:
    """Not a byte is taken."""
    client = FakeClient(CHAT, b"x" * 101, headers=length(101))

    assert await failure(client.channel()) is ErrorKind.BODY_TOO_LARGE
    assert client._pieces_in


async def test_body_counted_too_large_is_refused() -> None:
    """A body without a declared length is counted."""
    channel = FakeClient(CHAT, b"x" * 60, b"x" * 60).channel()

    assert await failure(channel) is ErrorKind.BODY_TOO_LARGE


@pytest.mark.parametrize("size", [100, 101])
async def test_limit_itself_is_allowed(size: int) -> None:
    """The limit is the largest body that is read."""
    channel = FakeClient(CHAT, b"x" * size).channel()

    if size == 100:
        assert len(await read(channel)) == 100
    else:
        assert await failure(channel) is ErrorKind.BODY_TOO_LARGE


async def test_length_that_is_no_number_is_ignored() -> None:
    """The server judges framing; here the bytes are counted."""
    channel = FakeClient(CHAT, b"abc", headers=[(b"content-length", b"x")]).channel()

    assert await read(channel) == b"abc"


async def test_late_body_is_a_timeout_and_leaves_no_cancellation() -> None:
    """The task goes on as if nothing had happened."""
    channel = FakeClient(CHAT, headers=length(3)).channel()

    kind = await failure(channel, timeout_s=0.01)

    task = asyncio.current_task()
    assert task is not None
    assert (kind, task.cancelling()) == (ErrorKind.BODY_TIMEOUT, 0)


async def test_cancellation_while_reading_is_no_timeout() -> None:
    """A worker that ends a call is obeyed."""
    reading = asyncio.ensure_future(read(FakeClient(CHAT).channel()))
    await asyncio.sleep(0)

    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_client_that_leaves_in_its_body_is_gone() -> None:
    """Half a request is none."""
    client = FakeClient(CHAT, headers=length(3))
    channel = client.channel()
    reading = asyncio.ensure_future(failure(channel))
    await asyncio.sleep(0)

    client.leave()

    assert await reading is ErrorKind.CLIENT_GONE
    assert channel.gone


async def test_small_body_is_read_away() -> None:
    """The connection can be used again."""
    client = FakeClient(CHAT, b"ab", b"c", headers=length(3))

    await client.channel().drain()

    assert client._pieces_in == []


@pytest.mark.parametrize("size", [b"2000000", b"x"])
async def test_large_body_is_not_read_away(size: bytes) -> None:
    """It would take longer than a new connection."""
    client = FakeClient(CHAT, b"abc", headers=[(b"content-length", size)])

    await client.channel().drain()

    assert client._pieces_in


async def test_body_that_was_read_is_not_read_again() -> None:
    """Nothing more will come."""
    client = FakeClient(CHAT, b"abc")
    channel = client.channel()
    await read(channel)

    await asyncio.wait_for(channel.drain(), 1)


async def test_body_that_came_whole_but_is_too_large_is_not_waited_for() -> None:
    """The refusal goes out at once."""
    channel = FakeClient(CHAT, b"x" * 200).channel()
    await failure(channel)

    await asyncio.wait_for(channel.drain(), 1)


async def test_body_of_who_has_left_is_not_waited_for() -> None:
    """Nobody sends it any more; a second departure changes nothing."""
    client = FakeClient(CHAT, headers=length(3))
    channel = client.channel()
    client.leave()
    await failure(channel)

    await asyncio.wait_for(channel.drain(), 1)


async def test_late_body_is_not_waited_for_again() -> None:
    """A client who was too slow once gets its response at once."""
    channel = FakeClient(CHAT, headers=length(3)).channel()
    await failure(channel, timeout_s=0.01)

    await asyncio.wait_for(channel.drain(), 1)


async def test_departure_while_the_body_is_read_away_is_no_error() -> None:
    """The response is written all the same, to nobody."""
    client = FakeClient(CHAT, headers=length(3))
    channel = client.channel()
    client.leave()

    await channel.drain()

    assert channel.gone


@pytest.mark.parametrize(
    ("pieces", "headers", "closes"),
    [
        ((b"abc",), length(3), False),
        ((), [], False),
        ((b"abc",), length(2_000_000), True),
        ((b"abc",), [(b"expect", b"100-continue"), *length(65_537)], True),
        ((b"abc",), [(b"expect", b"100-continue"), *length(65_536)], False),
        ((b"abc",), [(b"expect", b"100-continue"), (b"transfer-encoding", b"chunked")], True),
    ],
    ids=["read away", "no body", "left unread", "large", "small", "of unknown length"],
)
async def test_response_to_an_unread_body_ends_the_connection(
    pieces: tuple[bytes, ...], headers: Headers, closes: bool
) -> None:
    """The server closes it then, so the client must not use it again."""
    client = FakeClient(CHAT, *(pieces or (b"",)), headers=headers)

    await client.channel().respond_early(503, [(b"x-a", b"1")], b"no")

    assert (client.status, client.body, client.ended) == (503, b"no", True)
    assert client.headers == [(b"x-a", b"1"), *([(b"connection", b"close")] if closes else [])]


@pytest.mark.parametrize(
    ("headers", "reads"),
    [
        (length(3), False),
        (length(4096), False),
        (length(4097), True),
        ([(b"transfer-encoding", b"chunked")], True),
    ],
    ids=["tiny", "small", "large", "of unknown length"],
)
async def test_response_at_once_reads_no_small_body(headers: Headers, reads: bool) -> None:
    """It has arrived with the head, and the server discards it."""
    client = FakeClient(CHAT, b"abc", headers=headers)

    await client.channel().respond_at_once(503, [], b"no")

    assert (client.status, client.body, client.ended) == (503, b"no", True)
    assert (not client._pieces_in) is reads


async def test_header_is_the_first_of_its_name() -> None:
    """Names come in lower case from the server."""
    headers = [(b"x-a", b"1"), (b"x-a", b"2")]
    channel = FakeClient(CHAT, headers=headers, key=None).channel()

    assert (channel.header(b"x-a"), channel.header(b"x-b")) == (b"1", None)
    assert channel.headers == headers


def test_first_value_of_a_header_counts() -> None:
    """As in every lookup by name; all values are in `headers`."""
    headers = [(b"accept", b"one"), (b"x-other", b""), (b"accept", b"two")]
    channel = FakeClient(CHAT, headers=headers, key=None).channel()

    assert (channel.header(b"accept"), channel.header(b"x-other")) == (b"one", b"")
    assert channel.header(b"content-type") is None
    assert channel.headers == headers
    assert channel.has_any(frozenset({b"x-other", b"x-missing"}))
    assert not channel.has_any(frozenset({b"x-missing"}))
