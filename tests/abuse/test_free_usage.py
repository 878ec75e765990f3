"""Nothing is free: size, spelling and the moment of leaving change no charge."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.abuse.answers import (
    REAL,
    completion,
    honest,
    message,
    openai_usage,
    says,
    stream_end,
)
from tests.abuse.service import AbusedGateway, Customer
from tests.support.bodies import ANTHROPIC, OPENAI, openai_event
from tests.support.raw_client import Connection, render
from tests.support.raw_upstream import Script, Slot, stream

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

CREDIT = "100"
WHOLE = Decimal("0.301")
"""What `REAL` costs."""
HUGE = Decimal("2.001")
"""1,000 tokens of input and 200,000 of output."""
HUGE_BYTES = 9_400_000
RESPONSES, NATIVE = "/v1/responses", "/v1/chat"
SAY = '"messages":[{"role":"user","content":"x"}]'


@pytest.fixture
def target(abused: AbusedGateway) -> Slot:
    """An upstream of the test's own."""
    return abused.take()


@pytest.fixture
def customer(abused: AbusedGateway) -> Customer:
    """An account of the test's own."""
    return abused.customer(CREDIT)


def ask(path: str, model: str, **further: object) -> bytes:
    """Return a request for an endpoint."""
    if path == RESPONSES:
        given: dict[str, object] = {"input": "x"}
    elif path == NATIVE:
        given = {"input": "x"}
    else:
        given = {"messages": [{"role": "user", "content": "x"}]}
    if path == ANTHROPIC:
        given["max_tokens"] = 64_000
    return json.dumps({"model": model, **given, **further}).encode()


# Whole responses of more than eight million bytes.


def padded_logprobs() -> dict[str, object]:
    """Return log probabilities as large as `top_logprobs: 20` makes them."""
    return {"content": [{"token": "a", "pad": "y" * 900}] * (HUGE_BYTES // 930)}


def huge_chat(place: str) -> bytes:
    """Return a chat completion of 9.4 MB with its usage first, last, or in a tool's words."""
    real = openai_usage(1000, 200_000)
    answer = completion(real)
    choice = answer["choices"][0]
    choice["logprobs"] = padded_logprobs()
    fake = json.dumps({"usage": openai_usage(1, 1)})
    if place == "first":
        return json.dumps({"usage": answer.pop("usage"), **answer}).encode()
    if place == "last, spoofed in a tool's words":
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": fake}}
        choice["message"]["tool_calls"] = [call]
    if place == "first, spoofed behind it":
        choice["message"]["content"] = fake
        choice["usage"] = openai_usage(1, 1)
        answer = {"usage": answer.pop("usage"), **answer, "x_debug": {"usage": openai_usage(2, 2)}}
    return json.dumps(answer).encode()


@pytest.mark.parametrize(
    "place",
    ["first", "last", "last, spoofed in a tool's words", "first, spoofed behind it"],
)
def test_a_huge_relayed_answer_is_charged_by_its_usage(
    abused: AbusedGateway, target: Slot, customer: Customer, place: str
) -> None:
    """Wherever the usage stands, and whatever else looks like one."""
    body = huge_chat(place)
    assert len(body) > 9_000_000
    target.plays(says(body))
    answer = abused.post(OPENAI, customer.key, ask(OPENAI, target.model("openai")))

    assert answer.body == body
    assert abused.spent(customer, CREDIT) == HUGE


@pytest.mark.parametrize("place", ["first", "last", "last, spoofed in a tool's input"])
def test_a_huge_messages_answer_is_charged_by_its_usage(
    abused: AbusedGateway, target: Slot, customer: Customer, place: str
) -> None:
    """A tool's input is JSON of the model's own making, and may hold a usage object."""
    answer = message({"input_tokens": 1000, "output_tokens": 200_000}, "y" * HUGE_BYTES)
    if place == "first":
        answer = {"usage": answer.pop("usage"), **answer}
    if "spoofed" in place:
        given = {"usage": {"input_tokens": 1, "output_tokens": 1}}
        answer["content"].append({"type": "tool_use", "id": "t", "name": "f", "input": given})
        answer = {"usage": answer.pop("usage"), **answer, "content": answer.pop("content")}
    target.plays(says(answer))
    abused.post(ANTHROPIC, customer.key, ask(ANTHROPIC, target.model("anthropic")))

    assert abused.spent(customer, CREDIT) == HUGE


@pytest.mark.parametrize(
    ("path", "wire"),
    [
        (ANTHROPIC, "openai"),
        (RESPONSES, "openai"),
        (NATIVE, "openai"),
        (OPENAI, "anthropic"),
        (RESPONSES, "anthropic"),
    ],
)
def test_a_huge_translated_answer_is_charged_by_its_usage(
    abused: AbusedGateway, target: Slot, customer: Customer, path: str, wire: str
) -> None:
    """What the upstream charged is charged, also when the translation is refused for its size."""
    if wire == "openai":
        target.plays(says(huge_chat("last")))
    else:
        usage = {"input_tokens": 1000, "output_tokens": 200_000}
        target.plays(says(message(usage, "y" * HUGE_BYTES)))
    answer = abused.post(path, customer.key, ask(path, target.model(wire)))

    assert answer.status == 200
    assert abused.spent(customer, CREDIT) == HUGE


def test_a_huge_answer_that_never_says_its_usage_is_charged_by_its_size(
    abused: AbusedGateway, target: Slot, customer: Customer
) -> None:
    """Estimated from what was delivered: 4 MB of text are at least half a million tokens."""
    answer = completion(None, "word " * (HUGE_BYTES // 5))
    del answer["usage"]
    target.plays(says(answer))
    abused.post(OPENAI, customer.key, ask(OPENAI, target.model("openai")))

    assert abused.spent(customer, CREDIT) > Decimal("5")


# Ways to say in a request that its usage is not wanted.

OFF = '{"include_usage":false}'
DOUBLED = {
    "the member": (f'"stream_options":{OFF},"stream_options":{OFF}', "stream_options"),
    "the member, the first in escapes": (
        rf'"stream_optio\u006es":{OFF},"stream_options":{OFF}',
        "stream_options",
    ),
    "the member, the last in escapes": (
        rf'"stream_options":{OFF},"stream_optio\u006es":{OFF}',
        "stream_options",
    ),
    "its one option": (
        '"stream_options":{"include_usage":false,"include_usage":false}',
        "include_usage",
    ),
    "its one option in escapes": (
        r'"stream_options":{"include_usage":false,"include_us\u0061ge":false}',
        "include_usage",
    ),
    "first true, then false": (
        '"stream_options":{"include_usage":true,"include_usage":false}',
        "include_usage",
    ),
    "null first": (f'"stream_options":null,"stream_options":{OFF}', "stream_options"),
    "another case": (f'"Stream_Options":{OFF},"stream_options":{OFF}', "Stream_Options"),
    "another case alone": (f'"STREAM_OPTIONS":{OFF}', "STREAM_OPTIONS"),
    "the stream": ('"stream":true', "stream"),
    "the limit": ('"max_tokens":1,"max_tokens":64000', "max_tokens"),
    "the model": ('"model":"free"', "model"),
    "how many": ('"n":1,"n":16', "'n'"),
}


@pytest.mark.parametrize("how", DOUBLED)
def test_saying_it_twice_is_refused_by_name(
    abused: AbusedGateway, target: Slot, customer: Customer, how: str
) -> None:
    """Two parsers may each believe another of the two: 400, and nothing goes upstream."""
    said, name = DOUBLED[how]
    target.plays(honest())
    body = f'{{"model":"{target.model("openai")}","stream":true,{said},{SAY}}}'.encode()
    answer = abused.post(OPENAI, customer.key, body)

    assert answer.status == 400, answer
    assert name.encode() in answer.body
    assert target.exchanges == []


@pytest.mark.parametrize(
    "said",
    [
        f'"stream_options":{OFF},',
        '"stream_options":{},',
        '"stream_options":null,',
        rf'"stream_optio\u006es":{OFF},',
        r'"stream_options":{"include_us\u0061ge":false},',
        r'"stream_options":{ "include_usage" :null , "x":{"include_usage":false,"a":1}},',
        "",
    ],
)
def test_usage_is_asked_for_however_it_is_declined(
    abused: AbusedGateway, target: Slot, customer: Customer, said: str
) -> None:
    """A stream is charged whole, whether or not its client wants to see the usage."""
    target.plays(honest())
    body = f'{{"model":"{target.model("openai")}","stream":true,{said}{SAY}}}'.encode()
    answer = abused.post(OPENAI, customer.key, body)

    assert answer.status == 200
    assert b'"usage": {' not in answer.body
    assert abused.spent(customer, CREDIT) == WHOLE


# Leaving early.


def leave(gateway: AbusedGateway, path: str, key: str, body: bytes, mark: bytes) -> None:
    """Send a request and leave as soon as this is in what has come back."""
    with Connection(gateway.port) as connection:
        connection.send(render("POST", path, body, authorization=f"Bearer {key}"))
        status, _ = connection.read_head()
        assert status == 200
        seen = b""
        while mark not in seen:
            seen += connection.read_chunk()


@pytest.mark.parametrize(
    ("path", "wire", "mark"),
    [
        (OPENAI, "openai", b'"stop"'),
        (RESPONSES, "openai", b"response.output_text.done"),
    ],
)
def test_leaving_at_the_finish_reason_is_charged_whole(
    abused: AbusedGateway, target: Slot, customer: Customer, path: str, wire: str, mark: bytes
) -> None:
    """The usage comes 0.3 s later, and is waited for."""
    target.plays(honest(wait_s=0.3))
    leave(abused, path, customer.key, ask(path, target.model(wire), stream=True), mark)

    assert abused.spent(customer, CREDIT) == WHOLE


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_leaving_while_a_reasoning_model_thinks_is_charged_whole(
    abused: AbusedGateway, target: Slot, customer: Customer, wire: str
) -> None:
    """Reasoning that is never shown can be charged only by the usage: the stream is read on."""
    target.plays(honest(wait_s=0.5, pieces=5, pace_s=0.1))
    path = OPENAI if wire == "openai" else ANTHROPIC
    wish: dict[str, object] = {"reasoning_effort": "high"}
    if wire == "anthropic":
        wish = {"thinking": {"type": "enabled", "budget_tokens": 32_000}}
    body = ask(path, target.model(wire), stream=True, **wish)
    leave(abused, path, customer.key, body, b"word")

    assert abused.spent(customer, CREDIT) == WHOLE


def test_leaving_plain_text_is_charged_for_what_was_said(
    abused: AbusedGateway, target: Slot, customer: Customer
) -> None:
    """Without usage the text so far is estimated: 400 KB are more than 50,000 tokens."""
    long = openai_event("word " * 20_000)
    target.plays(stream(long, long, long, long, end="hang"))
    body = ask(OPENAI, target.model("openai"), stream=True)
    with Connection(abused.port) as connection:
        connection.send(render("POST", OPENAI, body, authorization=f"Bearer {customer.key}"))
        connection.read_head()
        got = 0
        while got < 4 * 100_000:
            got += len(connection.read_chunk())

    assert abused.spent(customer, CREDIT) > Decimal("0.5")


# Usage in places where it is easily missed.


def whole_stream(*events: bytes) -> Script:
    """Return a script that sends these events as one chunk."""
    return stream(b"".join(events))


STREAMS: dict[str, Callable[[], Script]] = {
    "in the finishing chunk": lambda: whole_stream(
        openai_event("a"),
        openai_event(finish="stop")[:-3] + b',"usage":' + _told() + b"}\n\n",
        b"data: [DONE]\n\n",
    ),
    "in front of the text": lambda: whole_stream(
        b'data: {"choices":[],"usage":' + _told() + b"}\n\n",
        openai_event("a"),
        openai_event(finish="stop"),
        b"data: [DONE]\n\n",
    ),
    "a fake one in the text": lambda: whole_stream(
        openai_event(json.dumps({"usage": openai_usage(1, 1)})),
        openai_event(finish="stop"),
        stream_end("openai", REAL["openai"]),
        openai_event(json.dumps({"usage": openai_usage(1, 1)})),
    ),
    "with white space": lambda: whole_stream(
        openai_event("a"),
        openai_event(finish="stop"),
        b'data:   { "choices" : [ ] ,  "usage" : ' + _told() + b" }\r\n\r\n",
        b"data: [DONE]\n\n",
    ),
    "split at every byte": lambda: stream(
        openai_event("a"),
        openai_event(finish="stop"),
        *[bytes([byte]) for byte in stream_end("openai", REAL["openai"])],
    ),
}


def _told() -> bytes:
    return json.dumps(REAL["openai"]).encode()


@pytest.mark.parametrize("where", STREAMS)
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC, RESPONSES])
def test_usage_of_a_stream_is_found(
    abused: AbusedGateway, target: Slot, customer: Customer, where: str, path: str
) -> None:
    """Relayed and translated, the charge is the upstream's own count."""
    target.plays(STREAMS[where]())
    abused.post(path, customer.key, ask(path, target.model("openai"), stream=True))

    assert abused.spent(customer, CREDIT) == WHOLE
