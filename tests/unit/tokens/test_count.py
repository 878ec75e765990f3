"""Counting the tokens of requests, and the sizes of images."""

from __future__ import annotations

import base64
import json
import random
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorKind, GatewayError
from gateway.tokens.cache_key import count_key
from gateway.tokens.calibration import HIGHEST, LOWEST, Calibration
from gateway.tokens.count import Bytes4
from gateway.tokens.images import image_size, image_tokens, url_tokens
from tests.support.token_counts import count_chat, count_messages

COUNTER = Bytes4()


def messages(*turns: dict[str, Any], **more: Any) -> int:
    return count_messages(json.dumps({"messages": list(turns)} | more).encode(), COUNTER)


def chat(*turns: dict[str, Any], **more: Any) -> int:
    return count_chat(json.dumps({"messages": list(turns)} | more).encode(), COUNTER)


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\x06\0\0\0"
    return base64.b64encode(head + b"\0" * 40).decode()


def image(data: str) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": data}
    return {"type": "image", "source": source}


def jpeg(width: int, height: int, *, padding: int = 0) -> str:
    exif = b"\xff\xe1" + struct.pack(">H", padding + 2) + b"\xff\xc0" * (padding // 2)
    tables = b"\xff\xff\xc4" + struct.pack(">H", 4) + b"ab"
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 8, 8, height, width, 3)
    return base64.b64encode(b"\xff\xd8" + exif + tables + frame + b"\0" * 20).decode()


def webp(kind: bytes, tail: bytes) -> str:
    return base64.b64encode(b"RIFF\0\0\0\0WEBP" + kind + b"\0\0\0\0" + tail).decode()


FRAME = 3 + 4
DATA_URL = "data:image/png;base64,"


@pytest.mark.parametrize(
    ("turns", "more", "tokens"),
    [
        ([], {}, 3),
        ([{"role": "user", "content": "abcde"}], {}, FRAME + 2),
        ([user(text("abcd"), text(""), text("efgh"))], {}, FRAME + 3),
        ([user(text("abcd"), image(png(750, 10)), text("efgh"))], {}, FRAME + 1 + 10 + 1),
        ([], {"system": "abcd"}, FRAME + 1),
        ([], {"system": ""}, 3),
        ([], {"system": "x-anthropic-billing-header: a\nabcd"}, FRAME + 1),
        ([], {"system": [text("x-anthropic-billing-header: a")]}, 3),
        ([], {"system": [text("abcd"), text("efgh")]}, FRAME + 3),
        ([{"role": "system", "content": "abcd"}], {}, FRAME + 1),
        ([{"role": "system", "content": [text("abcd"), {"type": "clear_at"}]}], {}, FRAME + 1),
        ([assistant(text("ab"), text("cd"))], {}, FRAME + 1),
        ([assistant({"type": "thinking", "thinking": "abcd", "signature": "x"})], {}, FRAME + 1),
        ([assistant({"type": "redacted_thinking", "data": "abcd"})], {}, 3),
        ([assistant({"type": "server_tool_use", "id": "a", "name": "b", "input": {}})], {}, 3),
        (
            [assistant({"type": "tool_use", "id": "a", "name": "abcd", "input": {"a": 1}})],
            {},
            FRAME + 8 + 1 + 2,
        ),
        ([assistant({"type": "tool_use", "id": "a", "name": "abcd"})], {}, FRAME + 8 + 1 + 1),
    ],
)
def test_count_messages_adds_up(
    turns: list[dict[str, Any]], more: dict[str, Any], tokens: int
) -> None:
    """Frames, texts and calls are counted as the chat request would hold them."""
    assert messages(*turns, **more) == tokens


@pytest.mark.parametrize(
    ("result", "tokens"),
    [
        ({"content": "abcd"}, FRAME + 1),
        ({}, FRAME),
        ({"content": [text("abcd"), text("efg")]}, FRAME + 2),
        ({"content": "abcd", "is_error": True}, FRAME + 3),
        ({"content": "Error: x", "is_error": True}, FRAME + 2),
        ({"content": [{"type": "tool_reference", "tool_name": "Foo"}]}, FRAME + 4),
        ({"content": [{"type": "odd"}]}, FRAME + 4),
    ],
)
def test_count_messages_tool_result_is_its_own_message(result: dict[str, Any], tokens: int) -> None:
    """A tool result counts as the tool message that it becomes."""
    block = {"type": "tool_result", "tool_use_id": "t"} | result

    assert messages(user(block)) == tokens
    assert messages(user(text("abcd"), block)) == tokens + 4 + 1


def test_count_messages_image_in_tool_result_moves_to_a_user_message() -> None:
    """An image that a tool returned is counted with the text that introduces it."""
    block = {"type": "tool_result", "tool_use_id": "t", "content": [text("a"), image(png(75, 10))]}
    note = "a\n[attachment in the next message]"
    title = "Attachment returned by tool call t:"

    expected = FRAME + COUNTER.count(note) + 4 + COUNTER.count(title) + 1

    assert messages(user(block)) == expected


@pytest.mark.parametrize(
    ("block", "tokens"),
    [
        ({"type": "image", "source": {"type": "url", "url": "https://x"}}, 1500),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, 1500),
        ({"type": "image"}, 1500),
        ({"type": "document", "source": {"type": "base64", "data": "AAAA"}}, 3000),
        ({"type": "document", "source": {"type": "url", "url": "https://x"}}, 3000),
        ({"type": "document", "title": "abc", "source": {"type": "text", "data": "abcd"}}, 2),
        ({"type": "document", "source": {"type": "content", "content": "abcd"}}, 1),
        ({"type": "document", "source": {"type": "content", "content": [text("abcd")]}}, 1),
        (
            {"type": "search_result", "title": "a", "source": "b", "content": [text("cccc")]},
            2,
        ),
        ({"type": "compaction", "content": "abcd"}, 1),
        ({"type": "container_upload", "file_id": "f"}, 11),
        ({"type": 5}, 3),
    ],
)
def test_count_messages_block_that_translation_may_refuse_is_counted(
    block: dict[str, Any], tokens: int
) -> None:
    """No block is an error: what cannot be read is counted by its size or a fixed number."""
    assert messages(user(block)) == FRAME + tokens


def test_count_messages_tools_with_schema_and_typed_ones() -> None:
    """A tool counts with its name, description and compact schema; a typed one as its JSON."""
    body = b"""{"messages":[],"tools":[
        {"name":"abcd","description":"abcde","input_schema":{ "type" : "object" }},
        {"type":"custom","name":"abcd"},
        {"type":"web_search_20250305","name":"web_search"}]}"""
    typed = '{"type":"web_search_20250305","name":"web_search"}'

    expected = 3 + (8 + 1 + 2 + 5) + (8 + 1) + (8 + COUNTER.count(typed))

    assert count_messages(body, COUNTER) == expected


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ({"role": "user", "content": "abcd"}, 1),
        ({"role": "user", "content": [text("abcd"), text("efgh")]}, 2),
        ({"role": "user", "content": None}, 0),
        (
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": DATA_URL + png(75, 10)}},
                    {"type": "image_url", "image_url": {"url": "https://x/y,z"}},
                    {"type": "file", "file": {"file_data": "x"}},
                    {"type": "input_audio", "input_audio": {"data": "x"}},
                ],
            },
            1 + 1500 + 3000 + 1500,
        ),
        ({"role": "assistant", "content": "abcd", "reasoning_content": "abcd"}, 2),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "function": {"name": "abcd", "arguments": "{}"}},
                    {"id": "c", "type": "custom", "custom": {"name": "abcd", "input": "abcde"}},
                ],
            },
            8 + 1 + 1 + 8 + 1 + 2,
        ),
        ({"role": "assistant", "function_call": {"name": "abcd", "arguments": "{}"}}, 10),
    ],
)  # fmt: skip
def test_count_chat_adds_up(message: dict[str, Any], tokens: int) -> None:
    """The count of a request is the sum of its parts."""
    assert chat(message) == FRAME + tokens


def test_count_chat_tools() -> None:
    """Functions count by name, description and schema, in both spellings."""
    function = {"name": "abcd", "description": "abcd", "parameters": {}}

    assert chat(tools=[{"type": "function", "function": function}]) == 3 + 8 + 3
    assert chat(functions=[function]) == 3 + 8 + 3


def test_counts_are_calibrated_and_rounded_up() -> None:
    """Ratio and offset apply to the whole count."""
    body = b'{"messages":[{"role":"user","content":"Hi"}]}'

    def counted(ratio: float, offset: float = 0) -> int:
        return count_messages(body, COUNTER, Calibration(ratio, offset))

    assert [counted(ratio) for ratio in (1.0, 1.1, 1.25, 1.5)] == [8, 9, 10, 12]
    assert counted(1.25, 200.5) == 211


def test_schema_of_the_response_is_counted() -> None:
    """In the forms of both APIs, as compact JSON."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    tokens = -(-len(json.dumps(schema, separators=(",", ":"))) // 4)

    named = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    plain = {"type": "json_schema", "schema": schema}
    assert chat(response_format=named) == chat() + tokens
    assert messages(output_config={"format": plain}) == messages() + tokens
    assert messages(output_format=plain) == messages() + tokens
    assert chat(response_format={"type": "json_object"}) == chat()


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png(640, 480), (640, 480)),
        (jpeg(1024, 768), (1024, 768)),
        (jpeg(1024, 768, padding=60_000), (1024, 768)),
        (base64.b64encode(b"GIF89a" + struct.pack("<HH", 20, 30) + b"\0" * 9).decode(), (20, 30)),
        (webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 0x4000 | 20, 30)), (20, 30)),
        (webp(b"VP8L", b"\x2f" + struct.pack("<I", 19 | 29 << 14 | 1 << 28) + b"\0" * 9), (20, 30)),
        (webp(b"VP8X", b"\0\0\0\0" + b"\x13\0\0" + b"\x1d\0\0"), (20, 30)),
        (png(0, 480), None),
        (png(640, 480)[:20], None),
        (webp(b"ALPH", b"\0" * 20), None),
        (jpeg(1024, 768)[:24], None),
        (base64.b64encode(b"\xff\xd8" + b"\xff" * 3000).decode(), None),
        (base64.b64encode(b"\xff\xd8abcdefghijklmnopqrstuvwxyz").decode(), None),
        ("", None),
        ("A", None),
        ("äöü", None),
    ],
)
def test_image_size_from_the_header(data: str, size: tuple[int, int] | None) -> None:
    """The four formats show their size in their first bytes; anything else has none."""
    assert image_size(data) == size


@pytest.mark.parametrize(
    ("data", "tokens"),
    [(png(1, 1), 1), (png(750, 1), 1), (png(751, 1), 2), (png(9999, 9999), 1600), ("AA==", 1500)],
)
def test_image_tokens_rounded_up_and_bounded(data: str, tokens: int) -> None:
    """One token per 750 pixels, at most 1600; 1500 if the size is unknown."""
    assert image_tokens(data) == tokens
    assert url_tokens(f"data:image/png;base64,{data}") == tokens
    assert url_tokens(f"data:image/png,{data}") == 1500


@given(
    st.binary(max_size=80), st.sampled_from([b"\xff\xd8", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a", b""])
)
def test_image_tokens_arbitrary_bytes_give_a_number(tail: bytes, head: bytes) -> None:
    """No image can make counting fail."""
    assert 1 <= image_tokens(base64.b64encode(head + tail).decode()) <= 1600
    assert 1 <= image_tokens(tail.decode("latin-1")) <= 1600


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":' + b"[" * 5000, b'{"a":"\xff"}'])
def test_count_of_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """Only a body that is no JSON object is an error."""
    for count in (count_messages, count_chat):
        with pytest.raises(GatewayError) as caught:
            count(body, COUNTER)
        assert caught.value.kind is ErrorKind.BAD_REQUEST


@pytest.mark.parametrize("levels", range(900, 1010, 3))
def test_count_of_deeply_nested_tool_is_a_number_or_refused(levels: int) -> None:
    """A schema near the decoder's depth limit never fails in an unforeseen way."""
    schema = '{"a":' * levels + "1" + "}" * levels
    body = f'{{"messages":[],"tools":[{{"name":"x","input_schema":{schema}}}]}}'.encode()

    try:
        assert count_messages(body, COUNTER) > levels
    except GatewayError as error:
        assert error.kind is ErrorKind.BAD_REQUEST


words = st.text(max_size=8)
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "text", "content", "source", "data", "name", "input", "role", "title", "url",
             "tool_calls", "function", "arguments", "image_url", "thinking", "is_error"]
        )
        | words,
        inner
        | st.sampled_from(
            ["text", "image", "document", "tool_result", "tool_use", "thinking", "base64",
             "content", "search_result", "compaction", "image_url", "file", "assistant", "user"]
        ),
        max_size=4,
    ),
    max_leaves=15,
)  # fmt: skip


@given(st.fixed_dictionaries({"messages": junk, "system": junk, "tools": junk, "functions": junk}))
def test_count_of_arbitrary_json_is_a_number(request: dict[str, Any]) -> None:
    """Any JSON object has a count, also with unpaired surrogates."""
    body = json.dumps(request).encode()

    assert count_messages(body, COUNTER) >= 3
    assert count_chat(body, COUNTER) >= 3


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes4_is_the_utf8_size_by_four(words: str) -> None:
    """The fall-back counts a token for every four bytes, rounded up."""
    assert COUNTER.count(words) == -(-len(words.encode()) // 4)


@given(st.lists(st.tuples(st.integers(-5, 10**9), st.integers(-5, 10**9)), max_size=50))
def test_calibration_stays_in_its_range(observations: list[tuple[int, int]]) -> None:
    """No observation moves the ratio out of 0.5 to 2.5."""
    calibration = Calibration()
    for actual, counted in observations:
        calibration = calibration.observed(actual, counted)
        assert LOWEST <= calibration.ratio <= HIGHEST


def test_calibration_ignores_calls_without_a_count() -> None:
    assert Calibration().observed(0, 100) == Calibration() == Calibration().observed(100, 0)


def test_constant_of_small_calls_is_not_a_factor_of_large_ones() -> None:
    """DeepSeek adds about 238 tokens to a request with tools, whatever its size."""
    calibration = Calibration()
    for number in range(60):
        counted = 90 + number % 20
        calibration = calibration.observed(counted + 238, counted)

    assert calibration.apply(100) == pytest.approx(338, abs=3)
    assert calibration.apply(100_000) == pytest.approx(100_238, rel=0.01)
    assert calibration.counted_tokens(calibration.apply(5000)) == pytest.approx(5000, abs=1)


@pytest.mark.parametrize(("ratio", "offset"), [(1.3, 0), (0.8, 0), (1.15, 500), (2.0, 50)])
def test_ratio_and_offset_are_learned_from_calls_of_all_sizes(ratio: float, offset: int) -> None:
    calibration, chance = Calibration(), random.Random(7)
    for _ in range(200):
        counted = int(10 ** chance.uniform(2, 5))
        calibration = calibration.observed(round(ratio * counted + offset), counted)

    for counted in (1000, 20_000, 150_000):
        assert calibration.apply(counted) == pytest.approx(ratio * counted + offset, rel=0.08)


def test_ratio_of_large_calls_alone_is_learned() -> None:
    """What exceeds the largest constant is a factor."""
    calibration = Calibration()
    for _ in range(40):
        calibration = calibration.observed(130_000, 100_000)

    assert calibration.apply(100_000) == pytest.approx(130_000, rel=0.01)


def test_count_key_differs_by_route_body_and_headers() -> None:
    """Moving bytes between fields changes the cache key."""
    beta = ((b"anthropic-beta", b"x"),)
    keys = {
        count_key("a/b", b"{}"),
        count_key("a/b", b"{} "),
        count_key("a/c", b"{}"),
        count_key("a/b", b"{}", beta),
        count_key("a/b", b"{}", ((b"anthropic-betax", b""),)),
        count_key("a/banthropic-betax", b"{}"),
    }

    assert len(keys) == 6
    assert all(len(key) == 32 for key in keys)
    assert count_key("a/b", b"{}") == count_key("a/b", b"{}")
