"""Decodes requests of both dialects for the demo upstream."""

from __future__ import annotations

import msgspec

from gateway.demo.script import Prompt, has_tool_directive


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Function(msgspec.Struct):
    name: str = ""


class _Tool(msgspec.Struct):
    name: str = ""
    function: _Function | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class DemoRequest(msgspec.Struct):
    """The members of both dialects that the demo upstream reads."""

    model: str
    messages: list[_Message] = []
    input: msgspec.Raw = msgspec.Raw(b"null")
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[_Tool] | None = None
    thinking: dict[str, object] | None = None
    reasoning_effort: str | None = None


_DECODER = msgspec.json.Decoder(DemoRequest)


def decode(body: bytes) -> DemoRequest:
    """
    Return the request.

    Raises:
        msgspec.DecodeError: The body is not a request.
        UnicodeDecodeError, RecursionError: The body cannot be decoded.
    """
    return _DECODER.decode(body)


def read_prompt(request: DemoRequest, body: bytes) -> Prompt:
    """Return the parts of a request that a script depends on."""
    turn = _last_turn(request.messages)
    task, since = _last_task(request.messages)
    return Prompt(
        task=task,
        results=sum(map(_tool_results, since)),
        text="\n".join(_text(message) for message in turn if message.role == "user"),
        after_tool=any(map(_tool_results, turn)),
        tools=frozenset(
            tool.function.name if tool.function else tool.name for tool in request.tools or ()
        ),
        thinking=_wants_thinking(request),
        max_tokens=request.max_completion_tokens or request.max_tokens or 32_000,
        input_chars=len(body),
    )


def _last_turn(messages: list[_Message]) -> list[_Message]:
    """Return the messages after the last assistant message."""
    for index in range(len(messages), 0, -1):
        if messages[index - 1].role == "assistant":
            return messages[index:]
    return messages


def _last_task(messages: list[_Message]) -> tuple[str, list[_Message]]:
    """Return the user's last message with a tool directive, and all messages after it."""
    for index in range(len(messages) - 1, -1, -1):
        text = _text(messages[index]) if messages[index].role == "user" else ""
        if has_tool_directive(text):
            return text, messages[index + 1 :]
    return "", []


def _tool_results(message: _Message) -> int:
    if message.role == "tool":
        return 1
    parts = message.content if isinstance(message.content, list) else ()
    return sum(part.type == "tool_result" for part in parts)


def _text(message: _Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content or () if part.text)


def _wants_thinking(request: DemoRequest) -> bool:
    if request.thinking is not None:
        return request.thinking.get("type") != "disabled"
    return request.reasoning_effort not in (None, "none", "minimal")
