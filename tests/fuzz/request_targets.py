"""Targets: everything that reads what a client sent."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from gateway.core.model import Wire
from gateway.errors import GatewayError
from gateway.operations.http_api import Query
from gateway.protocols.codec.json_decode import replace_lone_surrogates
from gateway.protocols.codec.json_spans import elements, members
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.http.request.reasoning import strip_all_reasoning, strip_foreign_reasoning
from gateway.protocols.http.request.rewrite import (
    relay_body,
    with_completion_limit,
    without_billing_line,
    without_fields,
)
from gateway.protocols.native_chat import NativeLimits, chat_request, read_native_request
from gateway.protocols.openai_responses.request import translate_responses_request
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_to_messages import request as chat_to_messages
from gateway.protocols.translate.messages_to_chat import request as messages_to_chat
from gateway.protocols.translate.stream import TranslationRoute
from gateway.tokens.count import Bytes4
from gateway.tokens.images import url_tokens
from tests.fuzz import seeds, shapes
from tests.fuzz.target import Target
from tests.support.token_counts import count_chat, count_messages

GENERIC = capabilities("generic", {})
ANTHROPIC = capabilities("anthropic", {})
QUERY_NAMES = ("from", "by", "limit", "id", "after", "x")


def value_of(text: bytes) -> Any:
    """Return JSON as Python's own reader understands it, each number as it was spelled."""
    return json.loads(replace_lone_surrogates(text).decode(), parse_int=str, parse_float=str)


def is_comparable(text: bytes) -> bool:
    """Whether Python's reader takes it: less deep nesting, and UTF-8 also where nobody looks."""
    try:
        value_of(text)
    except (UnicodeDecodeError, RecursionError):
        return False
    return True


def read_spans(body: bytes) -> None:
    """Each span holds its member's value, and together they are the object."""
    found = members(body)
    if not is_comparable(body):
        return
    mended = replace_lone_surrogates(body)
    assert {name: value_of(mended[start:end]) for name, start, end in found} == value_of(body)
    for _, start, end in found:
        if mended[start : start + 1] == b"[":
            inner = mended[start:end]
            assert [value_of(inner[a:b]) for a, b in elements(inner)] == value_of(inner)


def read_call(body: bytes) -> None:
    """The model is the one that other parsers find, and its span is its value."""
    for wire in Wire:
        try:
            call = decode_call(body, wire)
        except GatewayError:
            continue
        if not is_comparable(body):
            continue
        start, end = call.model_span
        whole = value_of(body)
        assert value_of(body[start:end]) == call.model == whole["model"]
        assert call.stream == bool(whole.get("stream"))
        assert (call.output_limit or 0) >= 0


def decode_calls(body: bytes) -> None:
    """Read the call on both wires."""
    for wire in Wire:
        with contextlib.suppress(GatewayError):
            decode_call(body, wire)


def rewrite(body: bytes) -> None:
    """What goes upstream says the same but for what was edited."""
    for wire in Wire:
        try:
            call = decode_call(body, wire)
        except GatewayError:
            continue
        if not is_comparable(body):
            continue
        wanted = value_of(body)
        asks = call.stream and wire is Wire.OPENAI
        sent, _ = relay_body(body, call, "up", ask_usage=asks)
        got = value_of(sent)
        if asks:
            assert got["stream_options"].pop("include_usage") is True
            options = wanted.get("stream_options") or {}
            options.pop("include_usage", None)
            assert got.pop("stream_options") == options
            wanted.pop("stream_options", None)
        assert got == {**wanted, "model": "up"}
        edit_further(sent, wire)


def edit(body: bytes) -> None:
    """Make every edit of both wires, without a look at the result."""
    for wire in Wire:
        with contextlib.suppress(GatewayError):
            call = decode_call(body, wire)
            sent, _ = relay_body(body, call, "up", ask_usage=True)
            without_fields(sent, frozenset({"tools", "stop"}))
            if wire is Wire.OPENAI:
                with_completion_limit(sent, call)
            else:
                without_billing_line(strip_all_reasoning(strip_foreign_reasoning(sent)))


def edit_further(sent: bytes, wire: Wire) -> None:
    """Each further edit leaves valid JSON, and takes out what it says."""
    whole = value_of(sent)
    left = value_of(without_fields(sent, frozenset({"tools", "stop"})))
    assert left == {name: whole[name] for name in whole if name not in ("tools", "stop")}
    if wire is Wire.OPENAI:
        limited = value_of(with_completion_limit(sent, decode_call(sent, wire)))
        assert len(limited) == len(whole)
        return
    for strip in (strip_foreign_reasoning, strip_all_reasoning, without_billing_line):
        stripped = strip(sent)
        assert value_of(stripped).keys() == whole.keys()
        assert strip(stripped) == stripped


def read_responses(body: bytes) -> None:
    """The chat request is one that the gateway reads itself."""
    decode_call(translate_responses_request(body).body, Wire.OPENAI)


def read_native(body: bytes) -> None:
    """The chat request is one that the gateway reads itself."""
    request = read_native_request(body, NativeLimits())
    decode_call(chat_request(request, model="m"), Wire.OPENAI)


def translate_messages(body: bytes) -> None:
    """The chat request is valid, and the same body gives the same bytes."""
    route = TranslationRoute("up", GENERIC, 8192)
    sent = messages_to_chat.translate_request(body, route, None).body
    assert not is_comparable(sent) or value_of(sent)["model"] == "up"
    assert messages_to_chat.translate_request(body, route, None).body == sent


def translate_chat(body: bytes) -> None:
    """The Messages request is valid, and the same body gives the same bytes."""
    route = TranslationRoute("up", ANTHROPIC, 8192)
    sent = chat_to_messages.translate_request(body, route).body
    assert not is_comparable(sent) or value_of(sent)["model"] == "up"
    assert chat_to_messages.translate_request(body, route).body == sent


def count(body: bytes) -> None:
    """Both counts are non-negative."""
    for walk in (count_chat, count_messages):
        try:
            assert 0 <= walk(body, Bytes4()) < 10**9
        except GatewayError:
            continue


def size_image(url: bytes) -> None:
    """Whatever is called an image costs a bounded number of tokens."""
    assert 0 <= url_tokens(url.decode("latin-1")) < 10**6


def read_query(text: bytes) -> None:
    """Every parameter is read or refused."""
    query = Query(text, QUERY_NAMES)
    query.text("id")
    query.time_ms("from")
    query.number("limit", 1, 100)
    query.words("by", ("day", "key"), ("day",))


IMAGES = [b"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ", b"http://x/y.png"]
TARGETS = [
    Target("spans", read_spans, seeds.REQUESTS, shapes.REQUESTS, members),
    Target("call", read_call, [*seeds.CHAT, *seeds.MESSAGES], shapes.REQUESTS, decode_calls),
    Target("rewrite", rewrite, [*seeds.CHAT, *seeds.MESSAGES], shapes.REQUESTS, edit),
    Target("responses", read_responses, seeds.RESPONSES, shapes.REQUESTS),
    Target("native", read_native, seeds.NATIVE, shapes.REQUESTS),
    Target("messages-to-chat", translate_messages, seeds.MESSAGES, shapes.REQUESTS),
    Target("chat-to-messages", translate_chat, seeds.CHAT, shapes.REQUESTS),
    Target("count", count, [*seeds.CHAT, *seeds.MESSAGES], shapes.REQUESTS),
    Target("image", size_image, IMAGES, {"one long image": lambda size: IMAGES[0] + b"A" * size}),
    Target("query", read_query, seeds.QUERIES, shapes.QUERIES),
]
