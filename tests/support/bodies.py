"""Small valid requests and streams of both dialects, as bytes."""

from __future__ import annotations

import json

OPENAI = "/v1/chat/completions"
ANTHROPIC = "/v1/messages"


def chat(model: str, text: str = "Hi", **members: object) -> bytes:
    """Return a chat completion request."""
    return json.dumps(
        {"model": model, "messages": [{"role": "user", "content": text}], **members}
    ).encode()


def message(model: str, text: str = "Hi", **members: object) -> bytes:
    """Return a Messages request."""
    return chat(model, text, **{"max_tokens": 1000, **members})


def request(path: str, model: str, text: str = "Hi", **members: object) -> bytes:
    """Return the request of a path's dialect."""
    return (message if path == ANTHROPIC else chat)(model, text, **members)


def openai_event(content: str | None = None, finish: str | None = None) -> bytes:
    """Return one chunk of a chat completion stream."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up"}
    return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"


OPENAI_USAGE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"up",'
    b'"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def anthropic_event(name: str, **members: object) -> bytes:
    """Return one event of a Messages stream."""
    data = json.dumps({"type": name, **members}).encode()
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


MESSAGE_START = anthropic_event(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "up",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 1},
    },
)
BLOCK_START = anthropic_event(
    "content_block_start", index=0, content_block={"type": "text", "text": ""}
)
BLOCK_STOP = anthropic_event("content_block_stop", index=0)
MESSAGE_DELTA = anthropic_event(
    "message_delta",
    delta={"stop_reason": "end_turn", "stop_sequence": None},
    usage={"output_tokens": 2},
)
MESSAGE_STOP = anthropic_event("message_stop")


def text_delta(text: str) -> bytes:
    """Return a piece of text of a Messages stream."""
    return anthropic_event(
        "content_block_delta", index=0, delta={"type": "text_delta", "text": text}
    )


START = {
    "openai": openai_event("Hel"),
    "anthropic": MESSAGE_START + BLOCK_START + text_delta("Hel"),
}
"""How a stream begins, its first content included."""
MORE = {"openai": openai_event("lo"), "anthropic": text_delta("lo")}
FINISH = {
    "openai": openai_event(finish="stop") + OPENAI_USAGE,
    "anthropic": BLOCK_STOP + MESSAGE_DELTA,
}
END = {"openai": DONE, "anthropic": MESSAGE_STOP}
"""The wire's last event."""
ERROR = {
    "openai": b'data: {"error":{"message":"The engine died","type":"server_error",'
    b'"param":null,"code":null}}\n\n',
    "anthropic": anthropic_event(
        "error", error={"type": "api_error", "message": "The engine died"}
    ),
}
PATHS = {"openai": OPENAI, "anthropic": ANTHROPIC}
WHOLE = {
    "openai": b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"up",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,'
    b'"total_tokens":11}}',
    "anthropic": b'{"id":"msg_1","type":"message","role":"assistant","model":"up","content":'
    b'[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","stop_sequence":null,'
    b'"usage":{"input_tokens":9,"output_tokens":2}}',
}
"""A response that is not streamed."""
