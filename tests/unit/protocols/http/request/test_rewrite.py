"""Requests that pass through: what is read of them, and the only bytes that change."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_spans import elements, members
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.http.request.reasoning import strip_all_reasoning, strip_foreign_reasoning
from gateway.protocols.http.request.rewrite import inject_usage, relay_body, rewrite_model

BIG = b'"pad":"' + b"x" * 5000 + b'",'
"""Makes a body take the path for large ones."""


REPEATED = "'model' occurs more than once in the request; send it once."


def both_sizes(body: bytes) -> list[bytes]:
    """Return `body` and the same with much padding."""
    at = body.index(b"{") + 1
    return [body, body[:at] + BIG + body[at:]]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"a"}', b'{"model":"up"}'),
        (b' \n{ "x" :1.0, "model"\t:\r\n "a\\"b" , "y":[1e2] } ',
         b' \n{ "x" :1.0, "model"\t:\r\n "up" , "y":[1e2] } '),
        (b'{"tools":[{"model":"t"}],"model":"a","t":"\\"model\\":1"}',
         b'{"tools":[{"model":"t"}],"model":"up","t":"\\"model\\":1"}'),
        (b'{"a":"model","model":"a"}', b'{"a":"model","model":"up"}'),
        (b'{"a":"x\\"model","b":"model\\"","model":"a"}',
         b'{"a":"x\\"model","b":"model\\"","model":"up"}'),
        (b'{"mod\\u0065l":"a","x":{"model":"n"}}', b'{"mod\\u0065l":"up","x":{"model":"n"}}'),
        (b'{"x":1,"y":"}model{","z":123,"model":"a"}',
         b'{"x":1,"y":"}model{","z":123,"model":"up"}'),
        (b'{"x":[1,[2]],"y":{"model":1},"model":"a","z":1}',
         b'{"x":[1,[2]],"y":{"model":1},"model":"up","z":1}'),
        (b'{"x":"\\ud83d","model":"a"}', b'{"x":"\\ud83d","model":"up"}'),
        (b'{"x":99999999999999999999999999,"model":"a"}',
         b'{"x":99999999999999999999999999,"model":"up"}'),
    ],
)  # fmt: skip
def test_rewrite_model_only_the_value_changes(before: bytes, after: bytes) -> None:
    """White space, order, numbers, escapes and nested members of the name stay."""
    for old, new in zip(both_sizes(before), both_sizes(after), strict=True):
        assert rewrite_model(old, "up") == new


def test_rewrite_model_quotes_the_new_name() -> None:
    """Any name becomes a JSON string."""
    assert json.loads(rewrite_model(b'{"model":"a"}', 'ü"\n')) == {"model": 'ü"\n'}


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (b'{"model":"a","model":"b"}', REPEATED, "model"),
        (b'{"model":"a","mod\\u0065l":"b"}', REPEATED, "model"),
        (b'{"\\u006dodel":"a","x":"model","model":"a"}', REPEATED, "model"),
        (b'{"x":{"model":"a"}}', "Missing required parameter: 'model'.", "model"),
        (b'{"model":[1]}', "Invalid value for 'model': expected a string, got an array.", "model"),
        (b'{"model":"a","stream":1}',
         "Invalid value for 'stream': expected a boolean or null, got an integer.", "stream"),
        (b'{"model":"a","max_tokens":-1}',
         "Invalid value for 'max_tokens': expected an integer >= 0.", "max_tokens"),
        (b'{"model":"a","max_tokens":1.5}',
         "Invalid value for 'max_tokens': expected an integer or null, got a number.",
         "max_tokens"),
    ],
)  # fmt: skip
def test_decode_call_refused_names_the_field(body: bytes, message: str, param: str) -> None:
    """Invalid fields are named on both paths, repeated models always."""
    for sized in both_sizes(body):
        for wire in Wire:
            with pytest.raises(GatewayError) as caught:
                decode_call(sized, wire)
            assert caught.value.kind is ErrorKind.BAD_REQUEST
            assert (caught.value.message, caught.value.param) == (message, param)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b'{"model":"a"}}', b'{"model":"\xff"}']
)
def test_decode_call_not_an_object_is_refused(body: bytes) -> None:
    """Only one JSON object is a request, whatever its size."""
    for sized in (body, body + b" " * 5000):
        with pytest.raises(GatewayError):
            decode_call(sized, Wire.OPENAI)


def test_decode_call_reads_each_wires_fields() -> None:
    """Fields are read where the client's dialect has them, and only there."""
    body = (
        b'{"model":"capio/m","stream":true,"max_tokens":5,"max_completion_tokens":7,'
        b'"metadata":{"user_id":"u"},"prompt_cache_key":"k","stream_options":{"include_usage":true}}'
    )
    for sized in both_sizes(body):
        chat = decode_call(sized, Wire.OPENAI)
        assert (chat.model, chat.stream, chat.output_limit) == ("capio/m", True, 7)
        assert (chat.prompt_cache_key, chat.include_usage, chat.user_id) == ("k", True, None)
        messages = decode_call(sized, Wire.ANTHROPIC)
        assert (messages.max_tokens, messages.output_limit, messages.user_id) == (5, 5, "u")
        assert (messages.prompt_cache_key, messages.include_usage) == (None, False)
        start, end = chat.model_span
        assert sized[start:end] == b'"capio/m"'


def test_decode_call_foreign_fields_of_other_types_pass() -> None:
    """A field that only the other dialect knows is for the upstream to judge."""
    messages = b'{"model":"m","stream_options":5,"max_completion_tokens":"x"}'
    assert decode_call(messages, Wire.ANTHROPIC).model == "m"
    assert decode_call(b'{"model":"m","metadata":{"user_id":5}}', Wire.OPENAI).model == "m"
    assert (
        decode_call(b'{"model":"m","stream":null,"metadata":null}', Wire.ANTHROPIC).stream is False
    )


ASK = b'"stream_options":{"include_usage":true},'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"m","stream":true}', b"{" + ASK + b'"model":"m","stream":true}'),
        (b' { "stream":true,"model":"m"}', b" {" + ASK + b' "stream":true,"model":"m"}'),
        (b'{"model":"m","stream":true,"stream_options":null}',
         b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'),
        (b'{"model":"m","stream":true,"stream_options" : { } }',
         b'{"model":"m","stream":true,"stream_options" : {"include_usage":true } }'),
        (b'{"model":"m","stream":true,"stream_options":{ "a":1}}',
         b'{"model":"m","stream":true,"stream_options":{"include_usage":true, "a":1}}'),
        (b'{"model":"m","stream":true,"stream_options":{"a":"}","include_usage": false}}',
         b'{"model":"m","stream":true,"stream_options":{"a":"}","include_usage": true}}'),
        (b'{"model":"m","stream":true,"stream_options":{"include_usage":null,"a":1}}',
         b'{"model":"m","stream":true,"stream_options":{"include_usage":true,"a":1}}'),
        (b'{"model":"m","stream":true,"stream\\u005foptions":{}}',
         b'{"model":"m","stream":true,"stream\\u005foptions":{"include_usage":true}}'),
        (b'{"model":"m","stream":true,"x":"\\udc00","stream_options":{}}',
         b'{"model":"m","stream":true,"x":"\\udc00","stream_options":{"include_usage":true}}'),
    ],
)  # fmt: skip
def test_inject_usage_asks_in_place(before: bytes, after: bytes) -> None:
    """The option is added to the client's own options, and the chunk is hidden."""
    assert inject_usage(before) == (after, True)
    call = decode_call(before, Wire.OPENAI)
    assert relay_body(before, call, "m", ask_usage=True) == (after, True)
    assert relay_body(before, call, "m", ask_usage=False) == (before, False)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m"}',
        b'{"model":"m","stream":false,"stream_options":{}}',
        b'{"model":"m","stream":null}',
        b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
    ],
)
def test_inject_usage_nothing_to_ask_changes_nothing(body: bytes) -> None:
    """No stream, asked already, or said twice: the body stays and nothing is hidden."""
    assert inject_usage(body) == (body, False)


def test_relay_body_both_edits_in_one_copy() -> None:
    """Model and options are edited wherever they stand to each other."""
    for body, wanted in (
        (b'{"stream":true,"model":"a"}', b"{" + ASK + b'"stream":true,"model":"up"}'),
        (b'{"model":"a","stream":true,"stream_options":null}',
         b'{"model":"up","stream":true,"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{},"model":"a","stream":true}',
         b'{"stream_options":{"include_usage":true},"model":"up","stream":true}'),
    ):  # fmt: skip
        call = decode_call(body, Wire.OPENAI)
        assert relay_body(body, call, "up", ask_usage=True) == (wanted, True)


REASONING = b'{"type":"thinking","thinking":"t","signature":"gw1."}'
CLAUDES = b'{"type":"thinking","thinking":"t","signature":"EqQ"}'
REDACTED = b'{"type":"redacted_thinking","data":"x"}'
CALL = b'{"type":"tool_use","input":{"n": 1.0, "big":123456789012345678901234567890}}'


def conversation(*blocks: bytes) -> bytes:
    """Return a request whose assistant said these blocks, with odd spelling around."""
    return (
        b'{"model":"m", "temperature":1.0,"messages":[ {"role":"user","content":"\\ud83d"},'
        b'{"role":"assistant","content":[' + b",".join(blocks) + b"]}]}"
    )


def test_strip_foreign_thoughts_keeps_the_bytes_of_what_stays() -> None:
    """Only the gateway's own reasoning is removed; numbers and lone surrogates are unchanged."""
    stripped = strip_foreign_reasoning(conversation(REASONING, CLAUDES, REDACTED, CALL))

    assert stripped == (
        b'{"model":"m", "temperature":1.0,"messages":[{"role":"user","content":"\\ud83d"},'
        b'{"role":"assistant","content":[' + b",".join([CLAUDES, REDACTED, CALL]) + b"]}]}"
    )


def test_strip_all_thoughts_removes_every_kind() -> None:
    """For the retry all reasoning and emptied messages are removed."""
    body = conversation(REASONING, CLAUDES, REDACTED, CALL)
    assert CALL in strip_all_reasoning(body)
    assert b"thinking" not in strip_all_reasoning(body)
    assert json.loads(strip_all_reasoning(conversation(CLAUDES, REDACTED)))["messages"] == [
        {"role": "user", "content": "\ud83d"}
    ]


@pytest.mark.parametrize(
    "body",
    [
        conversation(CLAUDES, b'{"type":"text","text":"\\"gw1."}'),
        conversation(b'"gw1."', b"5", b'{"type":"thinking","signature":5}'),
        b'{"messages":"gw1."}',
        b'{"messages":["gw1.",{"content":[]}]}',
        b'{"messages":{"signature":"gw1."}}',
        b'{"x":["gw1."],"messages":[{"role":"assistant","content":[]}]}',
    ],
)
def test_strip_foreign_thoughts_nothing_found_same_body(body: bytes) -> None:
    """The marker elsewhere, or shapes that are no blocks, change nothing."""
    assert strip_foreign_reasoning(body) is body or strip_foreign_reasoning(body) == body


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.sampled_from(["model", 'a"model"', "\ud83d", "{", "}]"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["model", "x", "a"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
names = st.sampled_from(["x", "y", "messages", "stream_options", "größe", 'q"', "\\", "🎉"])
spaces = st.sampled_from(["", " ", "\n", " \t\r\n"])


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, str]:
    """Draw the bytes around a model's value in an object with odd names and spaces."""
    fields = [
        (json.dumps(name, ensure_ascii=draw(st.booleans())), json.dumps(draw(json_values)))
        for name in draw(st.lists(names, max_size=5, unique=True))
    ]
    at = draw(st.integers(0, len(fields)))
    fields.insert(at, (draw(st.sampled_from(['"model"', '"\\u006dodel"'])), "\0"))
    text = draw(spaces) + "{" + draw(spaces)
    for index, (name, value) in enumerate(fields):
        comma = "," if index else ""
        text += f"{comma}{draw(spaces)}{name}{draw(spaces)}:{draw(spaces)}{value}{draw(spaces)}"
    before, after = (text + "}" + draw(spaces)).split("\0")
    return before, after


@given(objects(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.booleans())
def test_rewrite_model_any_object_changes_only_the_model(
    around: tuple[str, str], model: str, large: bool
) -> None:
    """Whatever else the object holds stays byte for byte."""
    before, after = (part.encode("utf-8", "surrogatepass") for part in around)
    if large:
        after += b" " * 5000
    body = before + b'"old"' + after

    call = decode_call(body, Wire.ANTHROPIC)
    changed = rewrite_model(body, model, call)

    assert call.model == "old"
    assert changed.startswith(before)
    assert changed.endswith(after)
    assert json.loads(changed[len(before) : len(changed) - len(after)]) == model


@given(st.lists(json_values, max_size=5), spaces)
def test_elements_any_array_found_in_place(values: list[object], space: str) -> None:
    """Each element's span holds exactly that element."""
    comma = f"{space},{space}"
    text = f"{space}[{space}{comma.join(json.dumps(value) for value in values)}{space}]{space}"
    if "\\ud83d" in text:
        text = text.replace("\\ud83d", "\\ufffd")

    spans = elements(text.encode())

    found = [json.loads(text.encode()[start:end]) for start, end in spans]
    assert found == json.loads(text)


@given(st.lists(st.sampled_from([b"{", b"}", b'"model"', b":", b'"a"', b",", b"[", b"]", b"1",
    b"\\u00", b'"', b"\xff", b"null", b"true", b'"stream"', b'"messages"', b'"gw1.']),
    max_size=14).map(b"".join))  # fmt: skip
def test_request_functions_arbitrary_bytes_raise_only_gateway_errors(body: bytes) -> None:
    """No bytes can make them fail in an unforeseen way, and spans are where they say."""
    for sized in (body, body + b" " * 5000):
        for function in (rewrite_model_to_up, inject_usage, strip_all_reasoning, members, elements):
            try:
                function(sized)
            except GatewayError:
                continue
        try:
            wanted = json.loads(rewrite_model_to_up(sized))
        except (GatewayError, UnicodeDecodeError):
            continue
        assert wanted["model"] == "up"


def rewrite_model_to_up(body: bytes) -> bytes:
    """Rewrite to a fixed name."""
    return rewrite_model(body, "up")
