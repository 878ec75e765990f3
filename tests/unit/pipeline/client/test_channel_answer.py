"""The client's end of a response: writes that wait or not, and word that the client left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.pipeline.client.channel import ClientChannel
from tests.support.pipeline_fakes import FakeClient
from tests.support.waiting import wait_until

CHAT = "/v1/chat/completions"
HEAD = [(b"content-type", b"text/plain")]


async def read(channel: ClientChannel) -> None:
    """Read the body, as every call does first."""
    task = asyncio.current_task()
    assert task is not None
    await channel.read_body(100, 5.0, task)


async def test_write_to_a_quick_client_does_not_wait() -> None:
    """The usual piece costs no switch of tasks."""
    client = FakeClient(CHAT)
    channel = client.channel()
    channel.start(200, HEAD)

    assert channel.try_write(b"a") is None
    await channel.end(b"b")

    assert (client.status, client.headers, client.pieces) == (200, HEAD, [b"a", b"b"])
    assert client.ended


async def test_write_to_a_slow_client_is_awaited() -> None:
    """What is returned ends when the piece was taken."""
    client = FakeClient(CHAT)
    channel = client.channel()
    channel.start(200, HEAD)
    client.slow = True

    pending = channel.try_write(b"a")
    assert pending is not None
    writing = asyncio.ensure_future(pending)
    await client.take()
    await writing

    assert client.pieces == [b"a"]


async def test_head_that_would_wait_is_a_mistake() -> None:
    """The server never makes us wait for a head: another one would break the relay's rules."""

    async def slow_send(message: dict[str, Any]) -> None:
        await asyncio.get_running_loop().create_future()

    client = FakeClient(CHAT)
    channel = ClientChannel(client.scope, client.receive, slow_send)

    with pytest.raises(RuntimeError, match="waits on a response head"):
        channel.start(200, HEAD)


async def test_whole_answer_is_one_head_and_one_piece() -> None:
    """And it is ended."""
    client = FakeClient(CHAT)
    channel = client.channel()

    await channel.respond(201, HEAD, b"abc")

    assert (client.status, client.body, client.send_count) == (201, b"abc", 2)
    assert channel.started
    assert channel.ended


@pytest.mark.parametrize("headers", [HEAD, [*HEAD, (b"connection", b"close")]])
async def test_response_of_a_draining_worker_closes_its_connection(
    monkeypatch: pytest.MonkeyPatch, headers: list[tuple[bytes, bytes]]
) -> None:
    """The client's next request goes to another worker; the header is there once."""
    monkeypatch.setattr(ClientChannel, "closing", True)
    client = FakeClient(CHAT)

    await client.channel().respond(200, headers, b"")

    assert client.headers == [*HEAD, (b"connection", b"close")]


async def test_copy_gets_everything_that_is_written() -> None:
    """For a call whose response is kept."""
    channel = FakeClient(CHAT).channel()
    channel.record(100)

    channel.start(200, HEAD)
    channel.try_write(b"a")
    await channel.end(b"b")

    answer = channel.recorded("req_1")
    assert answer is not None
    assert (answer.status, answer.body) == (200, b"ab")


async def test_departure_is_told_once() -> None:
    """A client leaves once, whatever the server repeats."""
    client, told = FakeClient(CHAT, b"{}"), []
    channel = client.channel()
    await read(channel)
    channel.watch_gone(lambda: told.append(1))

    client.leave()
    client.leave()
    await wait_until(lambda: channel.gone)

    assert told == [1]


async def test_departure_before_the_watch_is_told_at_once() -> None:
    """Who has left already is not waited for."""
    client, told = FakeClient(CHAT, b"{}"), []
    channel = client.channel()
    await read(channel)
    client.leave()

    channel.watch_gone(lambda: told.append(1))
    await asyncio.sleep(0)

    assert told == [1]


async def test_departure_after_the_end_is_none() -> None:
    """The server wakes the watch when the response has ended, too."""
    client, told = FakeClient(CHAT, b"{}"), []
    channel = client.channel()
    await read(channel)
    channel.watch_gone(lambda: told.append(1))
    await channel.respond(200, HEAD, b"")

    client.leave()
    await asyncio.sleep(0)

    assert (told, channel.gone) == ([], False)


async def test_last_piece_of_the_body_is_no_departure() -> None:
    """A body of declared length is read without its closing message, which the watch then sees."""
    client, told = FakeClient(CHAT, headers=[(b"content-length", b"2")]), []
    channel = client.channel()
    reading = asyncio.ensure_future(read(channel))
    await asyncio.sleep(0)
    client.say(b"{}", more=True)
    await reading
    channel.watch_gone(lambda: told.append(1))

    client.say(b"", more=False)
    await asyncio.sleep(0)
    before = list(told)
    client.leave()
    await wait_until(lambda: told)

    assert before == []


async def test_watch_that_fails_is_no_departure() -> None:
    """An error of the server does not mean that the client left."""
    client, told = FakeClient(CHAT, b"{}"), []
    channel = client.channel()
    await read(channel)
    channel.watch_gone(lambda: told.append(1))
    assert client._receiver is not None

    client._receiver.set_exception(OSError("server"))
    await asyncio.sleep(0)

    assert (told, channel.gone) == ([], False)


async def test_watch_that_is_cancelled_is_no_departure() -> None:
    """A worker that ends may cancel what waits."""
    client = FakeClient(CHAT, b"{}")
    channel = client.channel()
    await read(channel)
    channel.watch_gone(lambda: None)
    assert client._receiver is not None

    client._receiver.cancel()
    await asyncio.sleep(0)

    assert not channel.gone
