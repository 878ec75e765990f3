"""How much a request may hold, and that the work on one grows with its size and no faster."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.offload import is_long_walk, offloaded
from gateway.pipeline.request.reading import parse_request
from gateway.protocols.codec import json_decode as json_reading
from gateway.protocols.codec.json_decode import replace_lone_surrogates
from gateway.protocols.codec.json_spans import elements, members
from gateway.protocols.http.request import bounds as request_bounds
from gateway.protocols.http.request.bounds import RequestBounds, check_parts, count_values
from gateway.protocols.native_chat import NativeLimits
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_to_messages import request as openai_anthropic_request
from gateway.protocols.translate.messages_to_chat import request as anthropic_openai_request
from gateway.protocols.translate.stream import TranslationRoute
from gateway.settings import Server
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import FakeClient

BOUNDS = RequestBounds(max_members=8, max_messages=3, max_tools=2, max_values=500)
WORDS = b"x" * (300 * 1024)
"""Makes a body large enough to be counted where it is taken apart."""


def listed(element: bytes, count: int) -> bytes:
    return b"[" + b",".join([element] * count) + b"]"


def refused(body: bytes, endpoint: Endpoint = Endpoint.COUNT_TOKENS) -> tuple[str, str | None]:
    with pytest.raises(GatewayError) as caught:
        parse_request(endpoint, body, created=0, limits=NativeLimits(), bounds=BOUNDS)
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    return caught.value.message, caught.value.param


def test_defaults_are_those_of_the_settings() -> None:
    server = Server()
    assert RequestBounds() == (
        server.max_members, server.max_messages, server.max_tools, server.max_values
    )  # fmt: skip


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT_COMPLETIONS, Endpoint.RESPONSES])
@pytest.mark.parametrize("padding", [b"", b" " * 5000])
def test_too_many_members_are_refused(endpoint: Endpoint, padding: bytes) -> None:
    rest = b",".join(b'"m%d":1' % number for number in range(6))
    allowed = b'{"model":"m","input":"x",' + rest + b"}" + padding
    parse_request(endpoint, allowed, created=0, limits=NativeLimits(), bounds=BOUNDS)
    message = ("The request body has more than 8 members.", None)
    assert refused(allowed.replace(b'"m1":1', b'"m1":1,"m9":1'), endpoint) == message
    options = b",".join(b'"m%d":1' % number for number in range(9))
    body = b'{"model":"m","input":"x","metadata":{' + options + b"}}" + padding
    assert refused(body, endpoint) == ("'metadata' has more than 8 members.", "metadata")


@pytest.mark.parametrize(
    ("endpoint", "name", "element", "most"),
    [
        (Endpoint.COUNT_TOKENS, b"messages", b"{}", 3),
        (Endpoint.COUNT_TOKENS, b"tools", b"{}", 2),
        (Endpoint.RESPONSES, b"input", b'{"role":"user","content":"a"}', 3),
        (Endpoint.RESPONSES, b"tools", b'{"type":"function","name":"a"}', 2),
    ],
)
def test_too_many_elements_are_refused(
    endpoint: Endpoint, name: bytes, element: bytes, most: int
) -> None:
    rest = b'"user":"' + WORDS + b'"' if name == b"input" else b'"input":"' + WORDS + b'"'
    body = b'{"model":"m","%b":%b,%b}'
    allowed = body % (name, listed(element, most), rest)
    parse_request(endpoint, allowed, created=0, limits=NativeLimits(), bounds=BOUNDS)
    assert refused(body % (name, listed(element, most + 1), rest), endpoint) == (
        f"'{name.decode()}' has more than {most} elements.", name.decode()
    )  # fmt: skip


@pytest.mark.parametrize("what", [b"[],", b"{},", b"1,", b'"",', b" " * 64, b"[1,2],"])
def test_too_many_values_are_refused(what: bytes) -> None:
    body = b'{"model":"m","input":"%b","x":[%b0]}' % (WORDS, what * 501)
    assert refused(body) == ("The request body contains more than 500 JSON values.", None)


def test_what_stands_in_strings_is_no_value() -> None:
    body = b'{"model":"m","messages":[],"x":"' + b"[{,}]" * 100_000 + b'"}'
    check_parts(body, BOUNDS)


values = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from(['"', "\\", ",", "{", "a", "é"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
)


@given(values, st.integers(2, 40))
def test_count_values_of_any_text_in_any_pieces(value: object, piece: int) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", text)
    expected = sum(outside.count(mark) for mark in (b",", b"[", b"{"))
    escapes = text.count(b"\\")
    before = request_bounds._SLICE
    request_bounds._SLICE = piece  # type: ignore[misc]
    try:
        found = count_values(text, 10**9)
    finally:
        request_bounds._SLICE = before  # type: ignore[misc]
    assert expected <= found <= expected + escapes / 16


@given(
    st.lists(
        st.sampled_from(
            [
                "\\ud83d",
                "\\uDE00",
                "\\uD83D",
                "\\udfff",
                "\\\\",
                "\\n",
                '\\"',
                "ud83d",
                "\\u0041",
                "x",
            ]
        ),
        max_size=30,
    ),
    st.integers(13, 40),
)
def test_mended_text_is_what_a_lenient_reader_makes_of_it(pieces: list[str], step: int) -> None:
    text = '"' + "".join(pieces) + '"'
    read = json.loads(text)
    expected = re.sub(
        "[\ud800-\udbff][\udc00-\udfff]|([\ud800-\udfff])",
        lambda found: "\ufffd" if found[1] else found[0],
        "".join(read),
    )
    # json.loads joins whole pairs; what is left of them is lone.
    before = json_reading._STEP
    json_reading._STEP = step  # type: ignore[misc]
    try:
        mended = replace_lone_surrogates(text.encode())
    finally:
        json_reading._STEP = before  # type: ignore[misc]
    assert len(mended) == len(text)
    assert json.loads(mended) == expected


OPENAI = TranslationRoute("up", capabilities("openai", {}), None)
ANTHROPIC = TranslationRoute("up", capabilities("anthropic", {}), None)


def chat(content: bytes) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":%b}]}' % content


def repeated(count: int) -> bytes:
    return b'{"model":"m",' + b'"a":1,' * count + b'"a":"' + b"x" * count * 6 + b'"}'


def spelled_in_escapes(count: int) -> bytes:
    return b'{"model":"m","a":"' + b"\\n" * count * 8 + b'\\ud83d"}'


def strict_schema(count: int) -> bytes:
    names = [b'"%d"' % number for number in range(count)]
    return (
        b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"a"}],"output_format":'
        b'{"type":"json_schema","schema":{"type":"object","additionalProperties":false,'
        b'"properties":{%b},"required":[%b]}}}'
        % (b",".join(name + b":true" for name in names), b",".join(names))
    )


def to_chat(body: bytes) -> object:
    return anthropic_openai_request.translate_request(body, OPENAI)


def to_messages(body: bytes) -> object:
    return openai_anthropic_request.translate_request(body, ANTHROPIC)


def nested_document(levels: int) -> bytes:
    document = b'{"type":"text","text":"' + b"x" * levels * 500 + b'"}'
    for _ in range(levels // 16):
        document = b'{"type":"document","source":{"type":"content","content":[' + document + b"]}}"
    return (
        b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[' + document + b"]}]}"
    )


@pytest.mark.alone
@pytest.mark.parametrize(
    ("work", "make", "size"),
    [
        (members, repeated, 40_000),
        (members, lambda n: b'{"a"' + b" " * n * 10 + b":1}", 40_000),
        (members, lambda n: b'{"a":1' + b" " * n * 10 + b"}", 40_000),
        (members, lambda n: b"{" + b",".join(b'"%d":1' % i for i in range(n)) + b"}", 20_000),
        (members, lambda n: b'{"' + b"\\n" * n + b'":1}', 200_000),
        (elements, lambda n: listed(b"{}", n), 40_000),
        (replace_lone_surrogates, spelled_in_escapes, 40_000),
        (replace_lone_surrogates, lambda n: b'"' + b"\\ud83d\\ude00" * n + b'\\ud83d"', 40_000),
        (replace_lone_surrogates, lambda n: b'"' + b"\\\\" * n * 4 + b'\\ud83d"', 40_000),
        (to_chat, strict_schema, 2000),
        (to_chat, nested_document, 1000),
        (to_messages, lambda n: chat(listed(b'{"type":"text","text":"a"}', n)), 5000),
        (
            to_messages,
            lambda n: chat(
                b'[{"type":"image_url","image_url":{"url":"data:' + b";" * n * 10 + b'"}}]'
            ),
            40_000,
        ),
    ],
)
def test_work_grows_with_the_size(
    work: Callable[[bytes], object], make: Callable[[int], bytes], size: int
) -> None:
    """Four times the body costs about four times the CPU; sixteen times if quadratic."""

    def cost(body: bytes) -> float:
        best = float("inf")
        for _ in range(5):
            started = time.process_time()
            with contextlib.suppress(GatewayError):
                work(body)
            best = min(best, time.process_time() - started)
        return best

    small, large = cost(make(size)), cost(make(size * 4))
    assert large < 9 * small + 0.005


def test_endless_parts_are_refused_by_name() -> None:
    arguments = b'"{\\"a\\":[%b0]}"' % (b"[]," * 1_400_000)
    call = b'{"id":"a","function":{"name":"f","arguments":%b}}' % arguments
    body = b'{"model":"m","messages":[{"role":"assistant","tool_calls":[%b]}]}' % call
    with pytest.raises(GatewayError, match="arguments longer than 4,194,304 bytes"):
        to_messages(body)
    file = b'{"type":"file","file":{"file_data":"data:text/plain,%b"}}' % (b"%41" * 100_001)
    with pytest.raises(GatewayError, match="send base64"):
        to_messages(chat(b"[" + file + b"]"))
    with pytest.raises(GatewayError, match="document in a document"):
        to_chat(nested_document(32))


def test_only_large_bodies_of_many_parts_leave_the_loop() -> None:
    assert not is_long_walk(chat(b'"%b"' % (b"word, " * 20_000)))
    assert not is_long_walk(chat(listed(b"{}", 5000)))
    assert is_long_walk(chat(listed(b'{"type":"text","text":"some words"}', 5000)))
    assert is_long_walk(chat(b'"%b"' % (b"x" * 1024 * 1024)))


async def test_long_walks_leave_the_loop_running() -> None:
    """While the walk waits for the loop, the loop goes on: neither would end otherwise."""
    reached = threading.Event()

    async def other() -> None:
        reached.set()

    task = asyncio.create_task(other())
    assert await offloaded(reached.wait, 30)
    await task


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions",
         b'{"model":"m","stream":true,"stream_options":{},"stream_options":{"a":1}}',
         "stream_options"),
        ("/v1/messages", b'{"model":"m","max_tokens":1,"max_tokens":9}', "max_tokens"),
        ("/v1/messages", b'{"model":"m","Max_Tokens":9,"messages":[]}', "Max_Tokens"),
        ("/v1/responses", b'{"model":"m","input":"a","input":"b"}', "input"),
        ("/v1/embeddings", b'{"model":"m","input":"a","MODEL":"b"}', "MODEL"),
        ("/v1/chat", b'{"model":"m","input":"a","input":"b"}', "input"),
    ],
)  # fmt: skip
async def test_ambiguous_requests_reach_no_upstream(path: str, body: bytes, param: str) -> None:
    bench = Bench()
    client = FakeClient(path, body)
    call = await bench.run(client, ENDPOINTS[path])
    assert (client.status, bench.transport.requests) == (400, [])
    assert call.error is not None
    assert call.error.param == param
    assert param.encode() in client.body


ENDPOINTS = {
    "/v1/chat/completions": Endpoint.CHAT_COMPLETIONS,
    "/v1/messages": Endpoint.MESSAGES,
    "/v1/responses": Endpoint.RESPONSES,
    "/v1/embeddings": Endpoint.EMBEDDINGS,
    "/v1/chat": Endpoint.NATIVE_CHAT,
}


async def test_operators_bounds_hold_in_the_pipeline() -> None:
    bench = Bench(server=Server(max_members=64))
    members = b",".join(b'"m%d":1' % number for number in range(64))
    client = FakeClient("/v1/chat/completions", b'{"model":"m",' + members + b"}")
    await bench.run(client)
    assert client.status == 400
    assert b"more than 64 members" in client.body
    assert Wire.OPENAI in bench.model.deployments[0].wires


def test_values_are_commas_and_brackets_outside_of_strings() -> None:
    """Three commas, two objects, two lists."""
    assert count_values(b'[{},{},[1,"a,b{["]]', 100) == 7
