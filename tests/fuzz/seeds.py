"""Valid input to begin with: what agents send, and one small example of everything else."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.bodies import (
    BLOCK_START,
    BLOCK_STOP,
    DONE,
    ERROR,
    MESSAGE_DELTA,
    MESSAGE_START,
    MESSAGE_STOP,
    OPENAI_USAGE,
    WHOLE,
    anthropic_event,
    openai_event,
    text_delta,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def _golden(*names: str) -> list[bytes]:
    paths = sorted((GOLDEN / "requests").glob("*.json"))
    return [path.read_bytes() for path in paths if path.name.startswith(names)]


CHAT = [
    *_golden("opencode_title", "opencode_first", "opencode_write", "openclaw"),
    json.dumps(
        {
            "model": "m",
            "stream": True,
            "stream_options": {"include_usage": False},
            "max_tokens": 5,
            "n": 2,
            "messages": [
                {"role": "developer", "content": "s"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "hi \U0001f600"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning_content": "x",
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"a":1}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "r"},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "parameters": {
                            "type": "object",
                            "properties": {"a": {"$ref": "#/$defs/x"}},
                            "$defs": {"x": {"type": "string"}},
                        },
                    },
                }
            ],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "strict": True, "schema": {"type": "object"}},
            },
            "reasoning_effort": "high",
            "logit_bias": {"1": 2},
        }
    ).encode(),
]
MESSAGES = [
    *_golden("claude_code", "opencode_messages"),
    json.dumps(
        {
            "model": "m",
            "max_tokens": 100,
            "stream": True,
            "system": [
                {
                    "type": "text",
                    "text": "x-anthropic-billing-header: a\nb",
                    "cache_control": {"type": "ephemeral"},
                }
            ],
            "messages": [
                {"role": "user", "content": "a"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "t", "signature": "gw1.x"},
                        {"type": "redacted_thinking", "data": "x"},
                        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1, 2]}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "t1",
                            "is_error": True,
                            "content": [{"type": "text", "text": "x"}],
                        }
                    ],
                },
            ],
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "thinking": {"type": "enabled", "budget_tokens": 2000},
            "metadata": {"user_id": "u"},
            "stop_sequences": ["x"],
        }
    ).encode(),
]
RESPONSES = [
    *_golden("codex"),
    json.dumps(
        {
            "model": "m",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
                {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "abc"},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "o"},
                {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"},
            ],
            "instructions": "i",
            "tools": [
                {"type": "function", "name": "f", "parameters": {"type": "object"}},
                {"type": "custom", "name": "g", "format": {"type": "text"}},
            ],
            "reasoning": {"effort": "low", "summary": "auto"},
            "stream": True,
            "max_output_tokens": 5,
        }
    ).encode(),
]
NATIVE = [
    b'{"model":"m","input":"hi","temperature":1,"max_output_tokens":5,"max_retries":2,'
    b'"timeout":3.5,"web_search":false}'
]
REQUESTS = [*CHAT, *MESSAGES, *RESPONSES, *NATIVE]

CHAT_ANSWERS = [
    WHOLE["openai"],
    b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"hi","reasoning_content":"r","tool_calls":[{"id":'
    b'"c1","type":"function","function":{"name":"f","arguments":"{\\"usage\\":{}}"}}]},'
    b'"finish_reason":"tool_calls","logprobs":null}],"usage":{"prompt_tokens":1,'
    b'"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":1},'
    b'"completion_tokens_details":{"reasoning_tokens":1}}}',
]
MESSAGE_ANSWERS = [
    WHOLE["anthropic"],
    b'{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"thinking",'
    b'"thinking":"t","signature":"s"},{"type":"tool_use","id":"t","name":"f","input":{"usage":'
    b'{"input_tokens":9}}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens"'
    b':1,"cache_read_input_tokens":2,"cache_creation":{"ephemeral_5m_input_tokens":1},'
    b'"output_tokens":3}}',
]
ERRORS = [
    b'{"error":{"message":"m","type":"t","code":"c","param":null}}',
    b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}',
    b'[{"error":{"code":429,"message":"q","status":"RESOURCE_EXHAUSTED"}}]',
    b'{"base_resp":{"status_code":1008,"status_msg":"m"}}',
    b'{"detail":"caf\xc3\xa9"}',
    b"<html>502</html>",
]


def _tool(index: int, **function: str) -> bytes:
    call = {"index": index, "id": f"c{index}", "type": "function", "function": function}
    delta = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
    return b"data: " + json.dumps(delta).encode() + b"\n\n"


CHAT_STREAMS = [
    openai_event("a") + openai_event("b") + openai_event(finish="stop") + OPENAI_USAGE + DONE,
    openai_event("a")
    + b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"r"}}]}\r\n\r\n: ping\n\n'
    + _tool(0, name="f", arguments='{"a')
    + _tool(0, arguments='":1}')
    + openai_event(finish="tool_calls")
    + OPENAI_USAGE
    + DONE,
    openai_event("a") + ERROR["openai"],
]
MESSAGE_STREAMS = [
    MESSAGE_START + BLOCK_START + text_delta("a") + BLOCK_STOP + MESSAGE_DELTA + MESSAGE_STOP,
    MESSAGE_START
    + anthropic_event(
        "content_block_start",
        index=0,
        content_block={"type": "thinking", "thinking": "", "signature": ""},
    )
    + anthropic_event(
        "content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "x"}
    )
    + BLOCK_STOP
    + anthropic_event("ping")
    + anthropic_event(
        "content_block_start",
        index=1,
        content_block={"type": "tool_use", "id": "t", "name": "f", "input": {}},
    )
    + anthropic_event(
        "content_block_delta",
        index=1,
        delta={"type": "input_json_delta", "partial_json": '{"usage":{"output_tokens":1}}'},
    )
    + anthropic_event("content_block_stop", index=1)
    + MESSAGE_DELTA
    + MESSAGE_STOP,
    MESSAGE_START + BLOCK_START + text_delta("a") + ERROR["anthropic"],
]
HEADS = [
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"5;a=b\r\nhello\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
    b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\nkeep-alive: timeout=5\r\n"
    b"connection: keep-alive\r\n\r\nhello",
    b"HTTP/1.0 404 N\r\nretry-after: 5\r\n\r\nxx",
]
USAGES = [
    b'{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":{}}',
    b'{"input_tokens":1,"output_tokens":2,"cache_creation":{"ephemeral_5m_input_tokens":1},'
    b'"cache_read_input_tokens":null,"output_tokens_details":{"thinking_tokens":1}}',
]
QUERIES = [b"from=2027-01-31&by=day,key&limit=5", b"id=a%20b&after=&x=%ff+1", b"limit=1&limit=2"]
SEGMENTS = [b'{"request_id":"r","account_id":"a"}\n{"request_id":"s"}\n', b"{}\n\n\n{}\ntorn"]
