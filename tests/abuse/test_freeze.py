"""No single request stops a worker: others get responses while it is read and refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.abuse.answers import honest
from tests.abuse.service import LONG, AbusedGateway, Customer
from tests.support.bodies import ANTHROPIC, OPENAI, chat
from tests.support.raw_client import Answer
from tests.support.raw_upstream import Slot

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(240 if LONG else 60)]

ALLOWED_S = 1.0
"""How long others may wait, above ten times what they wait for an idle gateway."""
MIB = 1024 * 1024
BIG = 24 * MIB if LONG else 10 * MIB
MANY = 3 if LONG else 1
COUNT = "/v1/messages/count_tokens"
RESPONSES = "/v1/responses"
NATIVE = "/v1/chat"
EMBEDDINGS = "/v1/embeddings"
REFUSED = frozenset({400, 413})


class Waits(NamedTuple):
    """The response to the hostile client, and the longest wait of all other clients meanwhile."""

    answer: Answer
    took_s: float
    probe_s: float
    idle_s: float


class Bystander:
    """Another customer, who checks the gateway's health and calls a model again and again."""

    def __init__(self, gateway: AbusedGateway, upstream: Slot) -> None:
        self._gateway = gateway
        self._model = upstream.model("openai")
        self._customer = gateway.customer("100000")
        upstream.plays(honest())
        self.idle_s = max(self.probe() for _ in range(3))

    def probe(self) -> float:
        """Return the longer of two waits: for `/healthz` and for a small call."""
        began = time.monotonic()
        assert self._gateway.get("/healthz").status == 200
        between = time.monotonic()
        answer = self._gateway.post(OPENAI, self._customer.key, chat(self._model), timeout_s=100)
        assert answer.status == 200, answer
        return max(between - began, time.monotonic() - between)

    def while_running(self, attack: Callable[[], Answer]) -> Waits:
        """Run an attack; return its response and the waits beside it."""
        ended = threading.Event()
        worst = [0.0]

        def watch() -> None:
            while not ended.is_set():
                worst[0] = max(worst[0], self.probe())
                time.sleep(0.02)

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.monotonic()
        try:
            answer = attack()
        finally:
            took_s = time.monotonic() - began
            ended.set()
            watcher.join()
        return Waits(answer, took_s, worst[0], self.idle_s)


@pytest.fixture(scope="module")
def bystander(abused: AbusedGateway) -> Bystander:
    """The customer who must not wait."""
    return Bystander(abused, abused.take())


@pytest.fixture(scope="module")
def target(abused: AbusedGateway) -> Slot:
    """The upstream of the models that hostile requests name."""
    slot = abused.take()
    slot.plays(honest())
    return slot


@pytest.fixture(scope="module")
def rich(abused: AbusedGateway) -> Customer:
    """A customer with enough credit for every call."""
    return abused.customer("1000")


def attacked(
    gateway: AbusedGateway, bystander: Bystander, key: str, path: str, body: bytes
) -> Answer:
    """Send a hostile body; assert that nobody waited for it; return its response."""
    waits = bystander.while_running(lambda: gateway.post(path, key, body, timeout_s=200))
    print(
        f"{len(body) / 1e6:.1f} MB: {waits.answer.status} after {waits.took_s:.2f} s; others "
        f"waited {waits.probe_s:.3f} s (idle {waits.idle_s:.3f} s): {waits.answer.body[:200]!r}"
    )
    assert waits.probe_s < ALLOWED_S + 10 * waits.idle_s
    return waits.answer


# Requests. Each takes the model's name, and returns a body that was slow to read once.


def filled(model: str, before: bytes, item: bytes, count: int, after: bytes) -> bytes:
    """Return a request of so many items between two pieces of text."""
    start = b'{"model":' + json.dumps(model).encode() + b',"max_tokens":9,'
    return start + before + b",".join([item] * count) + after


def repeats(inside: bytes = b"", end: bytes = b"") -> Callable[[str], bytes]:
    """Return a maker of one name many times, its last value as long as all before together."""

    def make(model: str) -> bytes:
        count = 160_000 * MANY
        start = b'{"model":' + json.dumps(model).encode() + b',"max_tokens":9,'
        last = b',"zz":"' + b"x" * (count * 6) + b'"}'
        return start + inside + b",".join([b'"zz":1'] * count) + last + end

    return make


SAY = b'"messages":[{"role":"user","content":"x"}]'


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC, COUNT, RESPONSES, NATIVE, EMBEDDINGS])
@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_a_name_repeated_at_the_top_is_refused_at_once(
    abused: AbusedGateway, bystander: Bystander, target: Slot, rich: Customer, path: str, wire: str
) -> None:
    """The member is named in the 400, on every endpoint and for both kinds of upstream."""
    before = len(target.exchanges)
    answer = attacked(abused, bystander, rich.key, path, repeats()(target.model(wire)))

    assert answer.status == 400
    assert b"zz" in answer.body
    assert len(target.exchanges) == before


@pytest.mark.parametrize(
    ("path", "inside", "end"),
    [
        (OPENAI, b'"stream":true,"stream_options":{', b"," + SAY + b"}"),
        (ANTHROPIC, SAY + b',"metadata":{', b"}"),
        (ANTHROPIC, b'"messages":[{"role":"user","content":"x",', b"]}"),
        (ANTHROPIC, b'"messages":[{"role":"user","content":[{"type":"text",', b"]}]}"),
        (ANTHROPIC, SAY + b',"system":[{"type":"text",', b"]}"),
        (OPENAI, b'"messages":[{"role":"user",', b"]}"),
        (OPENAI, SAY + b',"tools":[{"type":"function","function":{', b"}]}"),
        (RESPONSES, b'"input":[{"role":"user",', b"]}"),
        (COUNT, b'"messages":[{"role":"user","content":"x",', b"]}"),
    ],
)
@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_a_name_repeated_inside_stops_nobody(
    abused: AbusedGateway,
    bystander: Bystander,
    target: Slot,
    rich: Customer,
    path: str,
    inside: bytes,
    end: bytes,
    wire: str,
) -> None:
    """Wherever the repeats stand; in an object that the gateway edits they are refused by name."""
    body = repeats(inside, end)(target.model(wire))
    json.loads(body)
    answer = attacked(abused, bystander, rich.key, path, body)

    assert answer.status in REFUSED | {200}
    if b"stream_options" in inside:
        assert answer.status == 400
        assert b"zz" in answer.body


def members(model: str) -> bytes:
    """Return a request of a million members, each with a name of its own."""
    names = b",".join(b'"%d":1' % number for number in range(1_000_000))
    return b'{"model":' + json.dumps(model).encode() + b"," + names + b"}"


EMPTY = b"{}"
CROWDS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "a million members": (OPENAI, members),
    "a million members, messages": (ANTHROPIC, members),
    "empty messages": (
        OPENAI,
        lambda model: filled(model, b'"messages":[', EMPTY, BIG // 3, b"]}"),
    ),
    "empty messages to count": (
        COUNT,
        lambda model: filled(model, b'"messages":[', EMPTY, BIG // 3, b"]}"),
    ),
    "small messages": (
        ANTHROPIC,
        lambda model: filled(
            model, b'"messages":[', b'{"role":"user","content":"a"}', BIG // 30, b"]}"
        ),
    ),
    "responses items": (
        RESPONSES,
        lambda model: filled(
            model, b'"input":[', b'{"role":"user","content":"a"}', BIG // 30, b"]}"
        ),
    ),
    "empty content blocks": (
        ANTHROPIC,
        lambda model: filled(
            model, b'"messages":[{"role":"user","content":[', EMPTY, BIG // 3, b"]}]}"
        ),
    ),
    "text blocks": (
        OPENAI,
        lambda model: filled(
            model,
            b'"messages":[{"role":"user","content":[',
            b'{"type":"text","text":""}',
            BIG // 26,
            b"]}]}",
        ),
    ),
    "responses parts": (
        RESPONSES,
        lambda model: filled(
            model,
            b'"input":[{"role":"user","content":[',
            b'{"type":"input_text","text":""}',
            BIG // 32,
            b"]}]}",
        ),
    ),
    "thinking blocks of other models": (
        ANTHROPIC,
        lambda model: filled(
            model,
            b'"messages":[{"role":"assistant","content":[',
            b'{"type":"thinking","thinking":"","signature":"gw1.x"}',
            BIG // 54,
            b"]}]}",
        ),
    ),
    "tools": (
        ANTHROPIC,
        lambda model: filled(
            model, SAY + b',"tools":[', b'{"name":"f","input_schema":{}}', BIG // 31, b"]}"
        ),
    ),
    "tools to count": (
        COUNT,
        lambda model: filled(model, SAY + b',"tools":[', EMPTY, BIG // 3, b"]}"),
    ),
}


@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_a_crowd_of_small_things_is_refused(
    abused: AbusedGateway, bystander: Bystander, target: Slot, rich: Customer, crowd: str, wire: str
) -> None:
    """More members, messages, items, blocks or tools than any client sends are 400 or 413."""
    path, make = CROWDS[crowd]
    answer = attacked(abused, bystander, rich.key, path, make(target.model(wire)))

    assert answer.status in REFUSED


def content(raw: bytes) -> Callable[[str], bytes]:
    """Return a maker of a request with this JSON as the one message's content."""

    def make(model: str) -> bytes:
        start = b'{"model":' + json.dumps(model).encode() + b',"max_tokens":9,'
        return start + b'"messages":[{"role":"user","content":' + raw + b"}]}"

    return make


RUNS: dict[str, Callable[[str], bytes]] = {
    "white space in a message": content(b" " * BIG + b'"x"'),
    "white space in text": content(b'"' + b" " * BIG + b'"'),
    "line ends": content(b'"' + rb"\n" * (BIG // 2) + b'"'),
    "backslashes": content(b'"' + b"\\\\" * (BIG // 2) + b'"'),
    "escaped letters": content(b'"' + rb"\u0041" * (BIG // 6) + b'"'),
    "lone surrogates": content(b'"' + rb"\ud800" * (BIG // 6) + b'"'),
    "a lone surrogate and escapes": content(b'"\\udc00' + rb"\n" * (BIG // 2) + b'"'),
    "quotes of a marker": content(b'"' + rb"\"model\":\"y\"," * (BIG // 15) + b'"'),
    "nested arrays, never closed": content(b"[" * BIG),
    "nested objects": content(b'{"a":' * (BIG // 6) + b"1" + b"}" * (BIG // 6)),
    "digits": content(b"9" * BIG),
    "one letter": content(b'"' + b"a" * BIG + b'"'),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("path", "wire"), [(OPENAI, "openai"), (COUNT, "openai")])
def test_a_long_run_stops_nobody(
    abused: AbusedGateway,
    bystander: Bystander,
    target: Slot,
    rich: Customer,
    run: str,
    path: str,
    wire: str,
) -> None:
    """White space, escapes, half emoji and nesting are read or refused beside other calls."""
    answer = attacked(abused, bystander, rich.key, path, RUNS[run](target.model(wire)))

    assert answer.status in REFUSED | {200, 429}


@pytest.mark.parametrize("run", ["lone surrogates", "backslashes", "escaped letters"])
def test_a_long_run_that_is_translated_stops_nobody(
    abused: AbusedGateway, bystander: Bystander, target: Slot, rich: Customer, run: str
) -> None:
    """The translator decodes the text once more."""
    body = RUNS[run](target.model("anthropic"))
    answer = attacked(abused, bystander, rich.key, OPENAI, body)

    assert answer.status in REFUSED | {200, 429}


def test_lone_surrogates_of_the_largest_body_stop_nobody(
    abused: AbusedGateway, bystander: Bystander, target: Slot, rich: Customer
) -> None:
    """32 MiB of half emoji are mended, or refused, beside other calls."""
    raw = b'"' + rb"\ud800" * ((32 * MIB - 1000) // 6) + b'"'
    answer = attacked(abused, bystander, rich.key, OPENAI, content(raw)(target.model("openai")))

    assert answer.status in REFUSED | {200, 429}
