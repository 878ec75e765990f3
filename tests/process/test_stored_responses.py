"""Stored responses through the running gateway, with OpenAI's SDK, over both upstream wires."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.bodies import END, FINISH, START, WHOLE
from tests.support.raw_upstream import Exchange, Slot, stream, whole
from tests.support.service import (
    ANTHROPIC_MODEL,
    HELLO,
    OPENAI_MODEL,
    DemoProcess,
    Key,
    Service,
)
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

WIRES = pytest.mark.parametrize("wire", ["openai", "anthropic"])
STREAMED = pytest.mark.parametrize("streamed", [False, True])
SIGNED = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"up","content":[{"type":"thinking",'
    b'"thinking":"I plan","signature":"c2lnbmVk"},{"type":"text","text":"Hello"}],'
    b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":2}}'
)
NO_SUCH = "resp_0123456789abcdef0123456789"

Client = Callable[[Key], openai.OpenAI]


@pytest.fixture
def client(gateway: Service) -> Iterator[Client]:
    """Makes the SDK's client of a key."""
    made: list[openai.OpenAI] = []

    def with_key(key: Key) -> openai.OpenAI:
        made.append(openai.OpenAI(api_key=key.raw, base_url=f"{gateway.url}/v1", max_retries=0))
        return made[-1]

    yield with_key
    for each in made:
        each.close()


def ask(sdk: openai.OpenAI, *, streamed: bool, **members: Any) -> Any:
    """Return the response object of a call, the last event's of a stream."""
    if not streamed:
        return sdk.responses.create(**members)
    events = [*sdk.responses.create(stream=True, **members)]
    assert events[-1].type == "response.completed"
    return events[-1].response


def answers(upstream: Slot, wire: str, *, streamed: bool) -> None:
    """Let the upstream response every request in the same way."""
    pieces = (START[wire], FINISH[wire], END[wire])
    upstream.plays(stream(*pieces) if streamed else whole(WHOLE[wire]))


def messages_of(exchange: Exchange) -> list[tuple[str, str]]:
    """Return roles and texts of the messages that an upstream was sent."""

    def text(content: Any) -> str:
        parts = content if isinstance(content, list) else [{"text": content}]
        return "".join(part["text"] for part in parts)

    return [(each["role"], text(each["content"])) for each in exchange.json["messages"]]


@WIRES
@STREAMED
def test_follow_up_has_the_whole_history_and_is_charged_for_it(
    gateway: Service, upstream: Slot, client: Client, wire: str, streamed: bool
) -> None:
    """Three turns that each send only what is new; every one is charged once."""
    key = gateway.new_key("conversation")
    answers(upstream, wire, streamed=streamed)
    said = "Hel" if streamed else "Hello"
    sdk, model = client(key), upstream.model(wire)

    first = ask(sdk, streamed=streamed, model=model, input="One")
    second = ask(
        sdk,
        streamed=streamed,
        model=model,
        previous_response_id=first.id,
        input=[{"role": "user", "content": [{"type": "input_text", "text": "Two"}]}],
    )
    third = ask(sdk, streamed=streamed, model=model, previous_response_id=second.id, input="Three")

    assert [each.store for each in (first, second, third)] == [True] * 3
    assert (first.previous_response_id, third.previous_response_id) == (None, second.id)
    assert messages_of(upstream.exchanges[-1]) == [
        *(("user", "One"), ("assistant", said), ("user", "Two"), ("assistant", said)),
        ("user", "Three"),
    ]
    wait_until_sync(lambda: gateway.calls(key)["calls"] == 3, 10)
    calls = gateway.calls(key)
    assert (calls["calls"], calls["failed"], calls["input"], calls["output"]) == (3, 0, 27, 6)


@WIRES
@STREAMED
def test_items_are_referred_to_by_id(
    gateway: Service, upstream: Slot, client: Client, key: Key, wire: str, streamed: bool
) -> None:
    """A reference stands for the item: in an input that is otherwise complete."""
    answers(upstream, wire, streamed=streamed)
    sdk, model = client(key), upstream.model(wire)
    first = ask(sdk, streamed=streamed, model=model, input="One")

    turn: Any = [
        {"role": "user", "content": "One"},
        {"type": "item_reference", "id": first.output[0].id},
        {"role": "user", "content": "Two"},
    ]
    second = ask(sdk, streamed=streamed, model=model, input=turn)

    said = "Hel" if streamed else "Hello"
    expected = [("user", "One"), ("assistant", said), ("user", "Two")]
    assert messages_of(upstream.exchanges[-1]) == expected
    items = sdk.responses.input_items.list(second.id, order="asc").data
    assert [item.type for item in items] == ["message"] * 3
    assert items[1].id == first.output[0].id


@WIRES
def test_response_is_retrieved_listed_and_deleted(
    gateway: Service, upstream: Slot, client: Client, key: Key, wire: str
) -> None:
    """What is retrieved is what was returned; after DELETE nothing continues it."""
    answers(upstream, wire, streamed=False)
    sdk, model = client(key), upstream.model(wire)
    first = sdk.responses.create(model=model, input="One", metadata={"ticket": "7"})
    second = sdk.responses.create(model=model, input="Two", previous_response_id=first.id)

    assert sdk.responses.retrieve(first.id).to_dict() == first.to_dict()
    *_, last = sdk.responses.retrieve(first.id, stream=True)
    assert last.type == "response.completed"
    assert last.response.to_dict() == first.to_dict()
    *_, last = sdk.responses.retrieve(first.id, stream=True, starting_after=500)
    assert last.sequence_number == 501
    for wrong in ({"starting_after": 1}, {"stream": "x"}, {"stream": "true", "starting_after": -1}):
        with pytest.raises(openai.BadRequestError):
            sdk.responses.retrieve(first.id, extra_query=wrong)
    listed = sdk.responses.input_items.list(second.id, limit=2)
    assert [item.to_dict()["role"] for item in listed.data] == ["user", "assistant"]
    assert [item.id for item in listed.get_next_page().data] == [f"msg_{first.id[5:]}_in0"]
    sdk.responses.delete(first.id)

    with pytest.raises(openai.NotFoundError) as gone:
        sdk.responses.retrieve(first.id)
    assert gone.value.code == "response_not_found"
    with pytest.raises(openai.NotFoundError):
        sdk.responses.delete(first.id)
    for previous in (first.id, second.id):
        with pytest.raises(openai.BadRequestError) as broken:
            sdk.responses.create(model=model, input="Three", previous_response_id=previous)
        assert broken.value.code == "previous_response_not_found"


def test_another_key_of_the_account_finds_nothing(
    gateway: Service, client: Client, key: Key
) -> None:
    """Neither the response nor its items, nor that they exist."""
    mine, other = client(key), client(gateway.new_key("other"))
    kept = mine.responses.create(model=OPENAI_MODEL, input="One")

    missing: list[str] = []
    for wanted in (kept.id, NO_SUCH):
        with pytest.raises(openai.BadRequestError) as refused:
            other.responses.create(model=OPENAI_MODEL, input="Two", previous_response_id=wanted)
        assert (refused.value.param, refused.value.code) == (
            "previous_response_id",
            "previous_response_not_found",
        )
        assert "full input" in refused.value.message
        assert "store" in refused.value.message
        missing.append(refused.value.message.replace(wanted, "ID"))
    assert missing[0] == missing[1]
    with pytest.raises(openai.NotFoundError) as reference:
        turn: Any = [{"type": "item_reference", "id": kept.output[0].id}]
        other.responses.create(model=OPENAI_MODEL, input=turn)
    assert reference.value.code == "item_not_found"
    for call in (
        other.responses.retrieve,
        other.responses.delete,
        other.responses.input_items.list,
    ):
        with pytest.raises(openai.NotFoundError):
            call(kept.id)
    assert mine.responses.retrieve(kept.id).id == kept.id


@STREAMED
def test_store_false_keeps_nothing(client: Client, key: Key, streamed: bool) -> None:
    """The response says so, and nothing continues it."""
    sdk = client(key)

    made = ask(sdk, streamed=streamed, model=OPENAI_MODEL, input="Hi", store=False)

    assert made.store is False
    assert made.output_text.startswith(HELLO)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError):
        sdk.responses.create(model=OPENAI_MODEL, input="Hi", previous_response_id=made.id)


@WIRES
def test_stream_that_fails_is_not_kept(upstream: Slot, client: Client, key: Key, wire: str) -> None:
    """A response that broke off cannot be continued."""
    upstream.plays(stream(START[wire], end="break"))
    sdk = client(key)

    events = [*sdk.responses.create(model=upstream.model(wire), input="Hi", stream=True)]

    assert events[-1].type == "response.failed"
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(events[-1].response.id)


@WIRES
def test_last_event_does_not_wait_for_the_upstreams_connection(
    upstream: Slot, client: Client, key: Key, wire: str
) -> None:
    """An upstream that leaves its body open after its last event delays nobody."""
    upstream.plays(stream(START[wire], FINISH[wire] + END[wire], end="hang"))
    sdk = client(key).with_options(timeout=3)

    made = ask(sdk, streamed=True, model=upstream.model(wire), input="Hi")

    assert made.store is True
    assert sdk.responses.retrieve(made.id).output_text == "Hel"


@pytest.mark.parametrize("stored", [True, False])
def test_signed_reasoning_returns_to_anthropic(
    upstream: Slot, client: Client, key: Key, stored: bool
) -> None:
    """By reference, or from the client that keeps it: with the signature that it came with."""
    upstream.plays(whole(SIGNED))
    sdk, model = client(key), upstream.model("anthropic")
    first = sdk.responses.create(model=model, input="One", store=stored)
    given = [item.to_dict() for item in first.output]
    assert given[0]["encrypted_content"]
    turn: Any = [{"role": "user", "content": "One"}]
    turn += [{"type": "item_reference", "id": each["id"]} for each in given] if stored else given

    sdk.responses.create(
        model=model, input=[*turn, {"role": "user", "content": "Two"}], store=stored
    )

    assert upstream.exchanges[-1].json["messages"][1]["content"][0] == {
        "type": "thinking",
        "thinking": "I plan",
        "signature": "c2lnbmVk",
    }


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
@STREAMED
def test_tool_loop_by_previous_response(
    client: Client, key: Key, model: str, streamed: bool
) -> None:
    """The result alone continues the call, on either wire."""
    sdk = client(key)
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
    asked = '/think\n/tool weather {"city": "Zürich"}'
    first = ask(sdk, streamed=streamed, model=model, input=asked, tools=[tool])
    call = first.output[-1]

    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = ask(
        sdk,
        streamed=streamed,
        model=model,
        input=[result],
        previous_response_id=first.id,
        tools=[tool],
    )

    assert json.loads(call.arguments) == {"city": "Zürich"}
    assert second.output_text.startswith("The tool has responded")


def service_with(home: Path, demo: DemoProcess, extra: str) -> Service:
    return Service(home, demo, workers=1, extra=extra).start()


def test_without_redis_calls_work_and_say_that_nothing_is_kept(
    tmp_path: Path, demo_upstream: DemoProcess, valkey: ValkeyProcess
) -> None:
    """`store` is false in whole and streamed responses; references are refused for a moment."""
    extra = f'[redis]\nurl = "{valkey.url}"\n'
    service = service_with(tmp_path / "away", demo_upstream, extra)
    try:
        key = service.new_key("away")
        with openai.OpenAI(api_key=key.raw, base_url=f"{service.url}/v1", max_retries=0) as sdk:
            kept = ask(sdk, streamed=False, model=OPENAI_MODEL, input="Hi")
            valkey.kill()
            for streamed in (False, True):
                made = ask(sdk, streamed=streamed, model=OPENAI_MODEL, input="Hi")
                assert made.store is False
                assert made.output_text.startswith(HELLO)
            with pytest.raises(openai.InternalServerError) as refused:
                sdk.responses.create(model=OPENAI_MODEL, input="Hi", previous_response_id=kept.id)
    finally:
        service.stop()
    assert kept.store is True
    assert refused.value.status_code == 503
    assert refused.value.response.headers["retry-after"] == "1"
    assert "Stored responses cannot be read" in refused.value.message


def test_switched_off_and_bounded(tmp_path: Path, demo_upstream: DemoProcess) -> None:
    """A TTL of 0 keeps nothing; a response above the bound is not kept, and says so."""
    off = service_with(tmp_path / "off", demo_upstream, "[responses]\nstore_ttl_s = 0\n")
    try:
        key = off.new_key("off")
        with openai.OpenAI(api_key=key.raw, base_url=f"{off.url}/v1", max_retries=0) as sdk:
            made = ask(sdk, streamed=True, model=OPENAI_MODEL, input="Hi")
            assert made.store is False
            with pytest.raises(openai.BadRequestError) as refused:
                sdk.responses.create(model=OPENAI_MODEL, input="Hi", previous_response_id=made.id)
            assert "stores no responses" in refused.value.message
            with pytest.raises(openai.NotFoundError):
                sdk.responses.retrieve(made.id)
    finally:
        off.stop()
    small = service_with(
        tmp_path / "small", demo_upstream, "[responses]\nmax_response_bytes = 4000\n"
    )
    try:
        key = small.new_key("small")
        with openai.OpenAI(api_key=key.raw, base_url=f"{small.url}/v1", max_retries=0) as sdk:
            assert ask(sdk, streamed=False, model=OPENAI_MODEL, input="Hi").store is True
            assert ask(sdk, streamed=False, model=OPENAI_MODEL, input="Hi" * 4000).store is False
    finally:
        small.stop()
