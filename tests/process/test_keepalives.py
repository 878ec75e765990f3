"""What clients get in the silences of an upstream: keep-alives that the vendors' SDKs pass over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.support.bodies import END, FINISH, MORE, PATHS, START, request
from tests.support.raw_client import Connection
from tests.support.raw_upstream import Exchange, RawUpstream, Script, Slot, stream, whole
from tests.support.service import DemoProcess, Key, Service

pytestmark = pytest.mark.process

CLIENTS = pytest.mark.parametrize("client", ["openai", "anthropic"])
WIRES = pytest.mark.parametrize("wire", ["openai", "anthropic"])
KEEPALIVES = {
    "openai": b": keep-alive\n\n",
    "anthropic": b'event: ping\ndata: {"type":"ping"}\n\n',
}
LAST = {"openai": (None, b"[DONE]"), "anthropic": ("message_stop", b'{"type":"message_stop"}')}
SILENCE_S = 1.2
LATE_S = 0.95
SETTINGS = "stream_keepalive_s = 0.5\nearly_head_s = 0.5"


@pytest.fixture(scope="module")
def lively(
    tmp_path_factory: pytest.TempPathFactory, demo_upstream: DemoProcess, raw_upstream: RawUpstream
) -> Iterator[Service]:
    """A gateway that lets no client wait for much longer than half a second."""
    home = tmp_path_factory.mktemp("lively")
    made = Service(home, demo_upstream, raw_upstream, workers=1, server=SETTINGS)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def lively_key(lively: Service) -> Key:
    """A key of that gateway."""
    return lively.new_key("lively")


@pytest.fixture
def slot(raw_upstream: RawUpstream, lively: Service) -> Iterator[Slot]:
    """A provider of the test's own."""
    taken = raw_upstream.take()
    yield taken
    raw_upstream.give_back(taken)


def silences(wire: str) -> Script:
    """Return a stream that is silent between two events, and again inside of one."""
    more = MORE[wire]
    cut = len(more) // 2
    pieces = (START[wire], SILENCE_S, more[:cut], SILENCE_S, more[cut:])
    return stream(*pieces, FINISH[wire], END[wire])


@CLIENTS
@WIRES
def test_silent_stream_is_kept_alive_between_events_only(
    lively: Service, lively_key: Key, slot: Slot, client: str, wire: str
) -> None:
    """The events arrive whole, whatever was sent between them, and the stream ends as it should."""
    slot.plays(silences(wire))
    path = PATHS[client]
    body = request(path, slot.model(wire), stream=True)

    with Connection(lively.port) as connection:
        answer = connection.request("POST", path, body, x_api_key=lively_key.raw)

    assert (answer.status, answer.complete) == (200, True)
    assert answer.body.count(KEEPALIVES[client]) >= 1
    if client == wire:
        events = answer.body.replace(KEEPALIVES[client], b"")
        assert events.startswith(START[wire] + MORE[wire])
        assert events.endswith(END[wire])
        assert MORE[wire] in answer.body
    name, data = answer.events[-1]
    assert (name, data.replace(b" ", b"")) == LAST[client]


@WIRES
def test_openai_sdk_passes_over_keepalives(
    lively: Service, lively_key: Key, slot: Slot, wire: str
) -> None:
    """A comment is no chunk."""
    slot.plays(silences(wire))

    with (
        openai.OpenAI(api_key=lively_key.raw, base_url=f"{lively.url}/v1", max_retries=0) as client,
        client.chat.completions.create(
            model=slot.model(wire), messages=[{"role": "user", "content": "Hi"}], stream=True
        ) as chunks,
    ):
        text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)

    assert text == "Hello"


@WIRES
def test_anthropic_sdk_passes_over_keepalives(
    lively: Service, lively_key: Key, slot: Slot, wire: str
) -> None:
    """A ping changes nothing of the message."""
    slot.plays(silences(wire))

    with (
        anthropic.Anthropic(api_key=lively_key.raw, base_url=lively.url, max_retries=0) as client,
        client.messages.stream(
            model=slot.model(wire), max_tokens=100, messages=[{"role": "user", "content": "Hi"}]
        ) as events,
    ):
        message = events.get_final_message()

    assert [block.text for block in message.content if block.type == "text"] == ["Hello"]
    assert message.stop_reason == "end_turn"


def late(script: Script) -> Script:
    """Return a script that is silent before it begins."""

    async def play(exchange: Exchange) -> None:
        await asyncio.sleep(LATE_S)
        await script(exchange)

    return play


FULL = (
    b'{"error":{"message":"Your input exceeds the context window",'
    b'"type":"invalid_request_error","code":"context_length_exceeded"}}'
)


@CLIENTS
def test_client_gets_a_head_before_a_late_upstream(
    lively: Service, lively_key: Key, slot: Slot, client: str
) -> None:
    """With keep-alives before the first event, and after the end one record of what served it."""
    slot.plays(late(stream(START[client], MORE[client], FINISH[client], END[client])))
    path = PATHS[client]

    with Connection(lively.port) as connection:
        body = request(path, slot.model(client), stream=True)
        answer = connection.request("POST", path, body, x_api_key=lively_key.raw)

    assert (answer.status, answer.complete) == (200, True)
    assert answer.body.startswith(KEEPALIVES[client])
    name, data = answer.events[-1]
    assert (name, data.replace(b" ", b"")) == LAST[client]
    assert [each for each in answer.headers if each.startswith("x-capio")] == []
    assert answer.headers["content-type"] == "text/event-stream"


@WIRES
def test_openai_sdk_reads_streams_with_an_early_head(
    lively: Service, lively_key: Key, slot: Slot, wire: str
) -> None:
    """Chat completions and responses: the text, or the error that came instead of it."""
    model = slot.model(wire)
    with openai.OpenAI(
        api_key=lively_key.raw, base_url=f"{lively.url}/v1", max_retries=0
    ) as client:
        slot.plays(late(stream(START[wire], MORE[wire], FINISH[wire], END[wire])))
        with client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Hi"}], stream=True
        ) as chunks:
            text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
        with client.responses.stream(model=model, input="Hi") as events:
            response = events.get_final_response()
        slot.plays(late(whole(FULL, 400)))
        with (
            pytest.raises(openai.APIError, match="exceeds the context") as raised,
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Hi"}], stream=True
            ) as chunks,
        ):
            list(chunks)
        slot.plays(late(whole(FULL, 400)))
        with client.responses.create(model=model, input="Hi", stream=True) as failing:
            last = list(failing)[-1]

    assert (text, response.output_text) == ("Hello", "Hello")
    assert raised.value.code == "context_length_exceeded"
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert (last.response.error.code, last.response.error.message) == (
        "context_length_exceeded",
        "Your input exceeds the context window",
    )


@WIRES
def test_anthropic_sdk_reads_streams_with_an_early_head(
    lively: Service, lively_key: Key, slot: Slot, wire: str
) -> None:
    """The message, or the error that came instead of it."""
    messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hi"}]
    with anthropic.Anthropic(api_key=lively_key.raw, base_url=lively.url, max_retries=0) as client:
        slot.plays(late(stream(START[wire], MORE[wire], FINISH[wire], END[wire])))
        with client.messages.stream(
            model=slot.model(wire), max_tokens=100, messages=messages
        ) as events:
            message = events.get_final_message()
        slot.plays(late(whole(FULL, 400)))
        with (
            pytest.raises(anthropic.APIStatusError, match="exceeds the context") as raised,
            client.messages.stream(
                model=slot.model(wire), max_tokens=100, messages=messages
            ) as events,
        ):
            events.get_final_message()

    assert [block.text for block in message.content if block.type == "text"] == ["Hello"]
    assert raised.value.status_code == 200
