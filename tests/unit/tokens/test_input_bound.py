"""How many tokens a body can have at most."""

from __future__ import annotations

import json

import pytest

from gateway.tokens.input_bound import TEMPLATE_TOKENS, input_token_bound

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
        body(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
        body(web_search_options={}),
        body(mcp_servers=[{"type": "url", "url": "https://x"}]),
        b'{"messages":[{"role":"assistant","audio":{"id":"a"}}]}',
    ],
)
def test_what_may_not_be_text_has_no_bound(sent: bytes) -> None:
    """Media, files, searches, unknown types, and names that are spelled with escapes."""
    assert input_token_bound(sent) is None
