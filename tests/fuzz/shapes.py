"""Hostile input of any size: what costs more than its length wherever something is quadratic."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Shape = Callable[[int], bytes]
"""Returns input of about so many bytes."""
Shapes = Mapping[str, Shape]

_SAY = b'"messages":[{"role":"user","content":"x"}],"input":"x"'


def crowd(before: bytes, item: bytes, after: bytes, between: bytes = b",") -> Shape:
    """Return a shape of one item many times."""
    return lambda size: before + between.join([item] * max(size // len(item), 1)) + after


def numbered(before: bytes, item: bytes, after: bytes, between: bytes = b",") -> Shape:
    """Return a shape of one item many times, each with a number of its own at `%d`."""

    def make(size: int) -> bytes:
        count = max(size // (len(item) + 4), 1)
        return before + between.join(item % number for number in range(count)) + after

    return make


def repeats(before: bytes, after: bytes) -> Shape:
    """Return a shape of one name many times, whose last value is as long as all before."""

    def make(size: int) -> bytes:
        count = size // 12
        return before + b'"zz":1,' * count + b'"zz":"' + b"x" * (count * 6) + b'"' + after

    return make


def nested(before: bytes, opening: bytes, middle: bytes, closing: bytes, after: bytes) -> Shape:
    """Return a shape of one thing inside of itself."""

    def make(size: int) -> bytes:
        depth = size // (len(opening) + len(closing))
        return before + opening * depth + middle + closing * depth + after

    return make


def _in_object(start: bytes) -> dict[str, Shape]:
    """Return the shapes of a JSON object that begins with `start` and ends with `}`."""
    return {
        "one name, many times": repeats(start, b"}"),
        "many names": numbered(start, b'"%d":1', b"}"),
        "many escaped names": numbered(start, rb'"\u0061%d":1', b"}"),
        "arrays in arrays": nested(start + b'"a":', b"[", b"", b"]", b"}"),
        "arrays never closed": lambda size: start + b'"a":' + b"[" * size,
        "objects in objects": nested(start + b'"a":', b'{"a":', b"1", b"}", b"}"),
        "white space": lambda size: start + b" \n" * (size // 2) + b'"a":1}',
        "line ends in text": lambda size: start + b'"a":"' + rb"\n" * (size // 2) + b'"}',
        "backslashes": lambda size: start + b'"a":"' + b"\\\\" * (size // 2) + b'"}',
        "unfinished escapes": lambda size: start + b'"a":"' + b"\\" * (size | 1) + b'"}',
        "half pairs": lambda size: start + b'"a":"' + rb"\ud800" * (size // 6) + b'"}',
        "whole pairs": lambda size: start + b'"a":"' + rb"\ud83d\ude00" * (size // 12) + b'"}',
        "one long text": lambda size: start + b'"a":"' + b"x" * size + b'"}',
        "text never closed": lambda size: start + b'"a":"' + b"x" * size,
        "digits": lambda size: start + b'"a":' + b"9" * size + b"}",
    }


REQUESTS: Shapes = {
    **_in_object(b'{"model":"m","max_tokens":9,' + _SAY + b","),
    "one option, many times": repeats(
        b'{"model":"m","stream":true,' + _SAY + b',"stream_options":{', b"}}"
    ),
    "many options": numbered(
        b'{"model":"m","stream":true,' + _SAY + b',"stream_options":{', b'"%d":1', b"}}"
    ),
    "one name of a message": repeats(b'{"model":"m","messages":[{"role":"user",', b"}]}"),
    "one name of a block": repeats(
        b'{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[{', b"}]}]}"
    ),
    "empty messages": crowd(b'{"model":"m","messages":[', b"{}", b"]}"),
    "messages": crowd(
        b'{"model":"m","max_tokens":9,"messages":[', b'{"role":"user","content":"a"}', b"]}"
    ),
    "turns": crowd(
        b'{"model":"m","max_tokens":9,"messages":[',
        b'{"role":"user","content":"a"},{"role":"assistant","content":"b"}',
        b"]}",
    ),
    "input items": crowd(b'{"model":"m","input":[', b'{"role":"user","content":"a"}', b"]}"),
    "calls and their results": numbered(
        b'{"model":"m","input":[',
        b'{"type":"function_call","call_id":"%d","name":"f","arguments":"{}"}',
        b"]}",
    ),
    "tool calls": numbered(
        b'{"model":"m","messages":[{"role":"assistant","tool_calls":[',
        b'{"id":"c%d","type":"function","function":{"name":"f","arguments":"{}"}}',
        b"]}]}",
    ),
    "tool messages": numbered(
        b'{"model":"m","messages":[',
        b'{"role":"tool","tool_call_id":"c%d","content":"r"}',
        b"]}",
    ),
    "tool blocks": numbered(
        b'{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[',
        b'{"type":"tool_use","id":"t%d","name":"f","input":{}}',
        b"]}]}",
    ),
    "empty blocks": crowd(
        b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[', b"{}", b"]}]}"
    ),
    "text blocks": crowd(
        b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[',
        b'{"type":"text","text":"a"}',
        b"]}]}",
    ),
    "thinking of other models": crowd(
        b'{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[',
        b'{"type":"thinking","thinking":"a","signature":"gw1.x"}',
        b"]}]}",
    ),
    "system blocks": crowd(
        b'{"model":"m","max_tokens":9,"messages":[],"system":[',
        b'{"type":"text","text":"x-anthropic-billing-header: a"}',
        b"]}",
    ),
    "tools": numbered(
        b'{"model":"m","max_tokens":9,' + _SAY + b',"tools":[',
        b'{"name":"f%d","input_schema":{},"type":"function","function":{"name":"f%%d"}}'.replace(
            b"%%d", b"g"
        ),
        b"]}",
    ),
    "tools with long names": numbered(
        b'{"model":"m","max_tokens":9,' + _SAY + b',"tools":[',
        b'{"type":"function","function":{"name":"' + b"n" * 90 + b'%d"}}',
        b"]}",
    ),
    "a schema's properties": numbered(
        b'{"model":"m",' + _SAY + b',"response_format":{"type":"json_schema","json_schema":'
        b'{"name":"n","strict":true,"schema":{"type":"object","properties":{',
        b'"p%d":{"type":"object"}',
        b"}}}}}",
    ),
    "stop sequences": numbered(b'{"model":"m",' + _SAY + b',"stop":[', b'"s%d"', b"]}"),
}
ANSWERS: Shapes = {
    **_in_object(b'{"usage":{"prompt_tokens":1,"completion_tokens":1,"input_tokens":1},'),
    "choices": crowd(b'{"choices":[', b'{"index":0,"message":{"content":"a"}}', b"]}"),
    "tool calls of an answer": numbered(
        b'{"choices":[{"index":0,"message":{"role":"assistant","tool_calls":[',
        b'{"id":"c%d","type":"function","function":{"name":"f","arguments":"{}"}}',
        b']},"finish_reason":"tool_calls"}]}',
    ),
    "content blocks of an answer": numbered(
        b'{"id":"m","type":"message","role":"assistant","content":[',
        b'{"type":"tool_use","id":"t%d","name":"f","input":{}}',
        b'],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":1}}',
    ),
    "usages": crowd(b'{"choices":[],', b'"usage":{"prompt_tokens":1,"completion_tokens":1}', b"}"),
    "the word usage": crowd(b'{"choices":[{"message":{"content":"', rb"\"usage\":{", b'"}}]}', b""),
    "quotes": lambda size: b'{"a":"' + rb"\"" * (size // 2) + b'"}',
    "tags": crowd(b'{"choices":[{"message":{"content":"', b"<think></think>", b'"}}]}', b""),
}
_CONTENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
_TEXT = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"a"}}\n\n'
)
STREAMS: Shapes = {
    "small events": crowd(b"", _CONTENT, b"", b""),
    "small text deltas": crowd(b"", _TEXT, b"", b""),
    "empty data lines": crowd(_CONTENT, b"data:\n", b"\n", b""),
    "short data lines": crowd(_CONTENT, b"data: a\n", b"\n", b""),
    "comments": crowd(_CONTENT, b":\n", b"\n", b""),
    "fields without meaning": crowd(_CONTENT, b"id: 1\n", b"\n", b""),
    "event names": crowd(_CONTENT, b"event: a\n", b"\n", b""),
    "line ends": lambda size: _CONTENT + b"\n" * size,
    "returns": lambda size: _CONTENT + b"\r" * size,
    "returns and line ends": lambda size: _CONTENT + b"\r\n" * (size // 2),
    "one long event": lambda size: (
        b'data: {"choices":[{"index":0,"delta":{"content":"' + b"x" * size + b'"}}]}\n\n'
    ),
    "one event without end": lambda size: b"data: " + b"x" * size,
    "one name without end": lambda size: b"x" * size,
    "pieces of one tool call": crowd(
        b"",
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":'
        b'{"name":"f","arguments":"aaaa"}}]}}]}\n\n',
        b"",
        b"",
    ),
    "many tool calls": numbered(
        b"",
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":%d,"id":"c","function":'
        b'{"name":"f","arguments":"{}"}}]}}]}\n\n',
        b"",
        b"",
    ),
    "many blocks": numbered(
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{}}}\n\n',
        b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,'
        b'"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}\n\n',
        b"",
        b"",
    ),
    "usage events": crowd(
        _CONTENT, b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n', b"", b""
    ),
    "half pairs in deltas": crowd(
        b"", b'data: {"choices":[{"index":0,"delta":{"content":"\\ud800"}}]}\n\n', b"", b""
    ),
    "tags in deltas": crowd(
        b"", b'data: {"choices":[{"index":0,"delta":{"content":"<think"}}]}\n\n', b"", b""
    ),
}
_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"transfer-encoding: chunked\r\n\r\n"
HEADS: Shapes = {
    "headers": numbered(_OK, b"x-%d: y\r\n", b"\r\n", b""),
    "one long header": lambda size: _OK + b"x: " + b"y" * size + b"\r\n\r\n",
    "a name without end": lambda size: _OK + b"x" * size,
    "interim heads": crowd(b"", b"HTTP/1.1 103 E\r\n\r\n", _OK + b"\r\n", b""),
    "digits of a length": lambda size: _OK + b"content-length: " + b"0" * size + b"5\r\n\r\nhello",
    "tokens of connection": crowd(_OK + b"connection: ", b"a,", b"\r\n\r\n", b""),
    "chunks of a byte": crowd(_CHUNKED, b"1\r\na\r\n", b"0\r\n\r\n", b""),
    "chunk extensions": crowd(_CHUNKED, b"1;a=b\r\na\r\n", b"0\r\n\r\n", b""),
    "one long extension": lambda size: _CHUNKED + b"1;" + b"a" * size + b"\r\na\r\n0\r\n\r\n",
    "trailers": crowd(_CHUNKED + b"0\r\n", b"x: y\r\n", b"\r\n", b""),
    "one large chunk": lambda size: _CHUNKED + b"%x\r\n" % size + b"a" * size + b"\r\n0\r\n\r\n",
    "zeros of a chunk": lambda size: _CHUNKED + b"0" * size + b"1\r\na\r\n0\r\n\r\n",
}
QUERIES: Shapes = {
    "parameters": crowd(b"", b"a=1", b"", b"&"),
    "names": numbered(b"", b"a%d=1", b"", b"&"),
    "separators": lambda size: b"&" * size,
    "escapes": lambda size: b"a=" + b"%41" * (size // 3),
    "one long value": lambda size: b"id=" + b"a" * size,
    "words": crowd(b"by=", b"day", b"", b","),
}
USAGES: Shapes = {
    **_in_object(b'{"prompt_tokens":1,"completion_tokens":1,"input_tokens":1,'),
    "digits of a count": lambda size: b'{"prompt_tokens":' + b"9" * size + b"}",
    "zeros of a count": lambda size: b'{"input_tokens":1.' + b"0" * size + b"}",
}
SEGMENTS: Shapes = {
    "lines": crowd(b"", b'{"request_id":"r"}\n', b"", b""),
    "empty lines": lambda size: b"\n" * size,
    "one line without end": lambda size: b"x" * size,
}
