"""The bytes of the requests that the loads send."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

CHAT: Final = "/v1/chat/completions"
MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"
_MARK: Final = "0000000000"
_TOOLS: Final = 24


@dataclass
class Payload:
    """
    One request; `next` numbers it, for what a cache would serve the second time.

    Args:
        before, after: Its bytes around the number; all of them in `before` if it has none.
    """

    before: bytes
    after: bytes = b""
    sent: int = 0

    def next(self) -> bytes:
        """Return the bytes of the next request."""
        if not self.after:
            return self.before
        self.sent += 1
        return b"%s%010d%s" % (self.before, self.sent, self.after)


def chat_body(model: str, *, prompt_bytes: int = 200, stream: bool = False) -> dict[str, object]:
    """Return a call with one message, which both APIs take."""
    body: dict[str, object] = {
        "model": model,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "x" * prompt_bytes}],
    }
    return body | {"stream": True} if stream else body


def agent_body(model: str, size: int) -> dict[str, object]:
    """Return a Messages call like a coding agent's: system prompt, tools, and many tool results."""
    schema = {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "The absolute path of the file."},
            "offset": {"type": "integer", "description": "The first line."},
        },
        "required": ["path"],
    }
    tools = [
        {"name": f"tool_{number}", "description": "Reads a file. " * 40, "input_schema": schema}
        for number in range(_TOOLS)
    ]
    tools[-1]["cache_control"] = {"type": "ephemeral"}
    system = [{"type": "text", "text": "You are a coding agent. " * 500}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Fix the failing test."}]
    result = '    def example(self) -> None:  # line "with quotes"\n' * 40
    body = {
        "model": model, "max_tokens": 4000, "stream": True,
        "system": system, "tools": tools, "messages": messages,
    }  # fmt: skip
    while len(json.dumps(body)) < size:
        call = f"toolu_{len(messages):06}"
        used = {"type": "tool_use", "id": call, "name": "tool_0", "input": {"path": "/src/a.py"}}
        answer = {"type": "tool_result", "tool_use_id": call, "content": result}
        messages.append({"role": "assistant", "content": [used]})
        messages.append({"role": "user", "content": [answer]})
    return body


def post(
    path: str, body: Mapping[str, object], key: str, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a request with its head."""
    payload = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n"
        "content-type: application/json\r\nanthropic-version: 2023-06-01\r\n"
        f"content-length: {len(payload)}\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        + "\r\n"
    )
    return head.encode() + payload


def chat_request(key: str, model: str, *, stream: bool = False) -> bytes:
    """Return a short Chat Completions request."""
    return post(CHAT, chat_body(model, stream=stream), key)


def numbered(request: bytes) -> Payload:
    """Return a payload that is different each time, if the request has `_MARK` in its body."""
    before, mark, after = request.partition(_MARK.encode())
    return Payload(before, after) if mark else Payload(request)


def unique_body(model: str, prompt_bytes: int) -> dict[str, object]:
    """Return a call whose text `numbered` makes different each time."""
    messages = [{"role": "user", "content": _MARK + "word " * (prompt_bytes // 5)}]
    return {"model": model, "messages": messages}
