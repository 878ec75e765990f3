"""How many tokens a body can have at most."""

from __future__ import annotations

import base64
import json
import random

import pytest

from gateway.tokens.input_bound import (
    TEMPLATE_TOKENS,
    input_token_bound,
    may_cache_for_an_hour,
    may_carry_media,
)

TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {
            "type": "object",
            "properties": {"type": {"type": ["string", "null"]}, "a": {"type": "integer"}},
        },
    },
}


def body(*parts: object, **more: object) -> bytes:
    """Return a request with one message of these parts."""
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": list(parts)}], **more}
    ).encode()


@pytest.mark.parametrize(
    "sent",
    [
        body({"type": "text", "text": 'about "image_url" and \\"type\\": \\"image\\"'}),
        body({"type": "text", "text": "caf\u00e9 \u0003"}, tools=[TOOL]),
        body({"type": "tool_use", "id": "t", "name": "f", "input": {"path": "a"}}),
        b'{"model":"m","messages":[{"role":"user","content":"hi"}]}',
        b'{"types":{"image":1},"audio_format":"wav","url_base":"x","max_search":"web_search"}',
        b"{}",
    ],
)
def test_text_has_at_most_as_many_tokens_as_bytes(sent: bytes) -> None:
    """And what a provider's template adds."""
    assert input_token_bound(sent) == len(sent) + TEMPLATE_TOKENS


@pytest.mark.parametrize(
    "sent",
    [
        body({"type": "image_url", "image_url": {"url": "https://x/y"}}),
        body({"type": "image", "source": {"type": "file", "file_id": "f"}}),
        b'{"messages":[{"content":[{ "type"\n:\t"document"}]}]}',
        b'{"messages":[{"content":[{"image_url":"https://x/y"}]}]}',
        b'{"messages":[{"content":[{"input_audio":{}}]}]}',
        b'{"messages":[{"content":[{"\\u0074ype":"input_file"}]}]}',
        b'{"messages":[{"content":[{"type":"i\\u006Dage"}]}]}',
        b'{"messages":[{"content":[{"type":"text","type":"image"}]}]}',
        b'{"messages":[{"content":[{"type":"text-and-more"}]}]}',
        b'{"messages":[{"content":[{"type":7}]}]}',
        b'{"types":"text","messages":[{"content":[{"type":"image"}]}]}',
        b'{"messages":[{"content":[{"audio":{}}]}]}',
        body(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
        body(web_search_options={}),
        body(mcp_servers=[{"type": "url", "url": "https://x"}]),
        b'{"messages":[{"role":"assistant","audio":{"id":"a"}}]}',
    ],
)
def test_what_may_not_be_text_has_no_bound(sent: bytes) -> None:
    """Media, files, searches, unknown types, and names that are spelled with escapes."""
    assert input_token_bound(sent) is None


@pytest.mark.parametrize(
    ("ttl", "found"),
    [
        (b'"1h"', True),
        (b'"\\u0031h"', True),
        (b'"1\\u0068"', True),
        (b'"5m"', False),
        (b'"5m","text":"1h\\u00e9"', False),
    ],
)
def test_one_hour_cache_is_found_however_it_is_spelled(ttl: bytes, found: bool) -> None:
    """It costs more, so that a request with it holds more."""
    assert may_cache_for_an_hour(b'{"cache_control":{"ttl":%b}}' % ttl) is found


TEXTS = {
    "prose": b"The quick brown fox jumps over the lazy dog. ",
    "code": b"def f(x):\\n    return x if x is not None else g(x, y=1)\\n",
    "chinese": "敏捷的棕色狐狸跳过了懒狗，".encode(),
    "messages": b'{"role":"user","content":"Hello"},',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_text_is_no_media(text: bytes) -> None:
    assert not may_carry_media(text * (300_000 // len(text)))


@pytest.mark.parametrize("size", [4200, 10_000, 1_000_000])
@pytest.mark.parametrize("at", [0, 1, 4000, 4095, 50_000])
def test_base64_may_be_media_wherever_it_is(size: int, at: int) -> None:
    """More than 4 KB of it is always noticed."""
    data = base64.b64encode(random.Random(size).randbytes(size))
    body = (TEXTS["prose"] * 2000)[:at] + b'"data":"' + data + b'"'

    assert may_carry_media(body)
