"""What is measured was seen to respond correctly, whole and streamed."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import bench.peers.verify
from bench.harness.systems import PROXY, Can, System
from bench.peers.process import AbsentError
from bench.peers.verify import verify
from bench.upstream import respond
from gateway.demo.server import Exchange, ScriptedServer, each_request, stream_head, whole


@contextmanager
def serving(handler: Callable[[Exchange], None]) -> Iterator[int]:
    """Serve in a thread, since systems are verified by blocking calls; yield the port."""
    loop = asyncio.new_event_loop()
    server = ScriptedServer(each_request(handler))
    port = loop.run_until_complete(server.listen())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(server.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.peers.verify, "READY_S", 0.5)


def test_system_that_serves_everything_keeps_its_abilities() -> None:
    """The upstream itself is as correct as can be."""
    with serving(respond) as port:
        system = System("x", port, can=PROXY - {Can.TLS})

        assert verify(system) == []
        assert system.can == {Can.MESSAGES, Can.COUNT_TOKENS}


def test_system_does_not_take_part_in_what_it_gets_wrong() -> None:
    """A wrong response is cheap: it must not look fast."""

    def without_messages(exchange: Exchange) -> None:
        if exchange.target.endswith("/messages"):
            exchange.connection.write(whole(b"{}", 404))
        else:
            respond(exchange)

    with serving(without_messages) as port:
        system = System("x", port, can=PROXY - {Can.TLS})

        (missing,) = verify(system)

        assert missing.startswith("x: no messages: status 404")
        assert system.can == {Can.COUNT_TOKENS}


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (whole(b'{"choices": []}'), "not the upstream's text"),
        (whole(b"no json"), "no JSON"),
        (whole(b"{}", 503), "status 503"),
    ],
)
def test_system_that_responds_wrongly_is_absent(response: bytes, problem: str) -> None:
    """Nothing is measured of it."""
    with (
        serving(lambda exchange: exchange.connection.write(response)) as port,
        pytest.raises(AbsentError, match=problem),
    ):
        verify(System("x", port))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"data: the quick brown fox jumps\n\n" * 99 + b"data: [DONE]\n\n", "99 of 100 chunks"),
        (b"data: the quick brown fox jumps\n\n" * 100, "the stream ends with"),
    ],
)
def test_stream_must_be_complete(body: bytes, problem: str) -> None:
    """A chunk that is lost, or an end that is missing, disqualifies."""

    def cut(exchange: Exchange) -> None:
        if b'"stream": true' not in exchange.body:
            respond(exchange)
            return
        connection = exchange.connection
        connection.write(stream_head() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    with serving(cut) as port, pytest.raises(AbsentError, match=problem):
        verify(System("x", port))
