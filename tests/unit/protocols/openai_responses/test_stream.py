"""Chat streams and responses as Responses streams and responses."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.openai_responses.context import ToolName
from gateway.protocols.openai_responses.reasoning import PackedReasoning, unpack_reasoning
from gateway.protocols.openai_responses.request import translate_responses_request
from gateway.protocols.openai_responses.response import translate_responses_response
from gateway.protocols.openai_responses.stream import responses_stream
from tests.support.responses_streams import (
    ASKED,
    DONE,
    TEXT_ITEM,
    USAGE,
    chunk,
    context,
    events_in,
    finished,
    kinds,
    last,
    run,
    tool,
)


def test_request_is_echoed_compact_and_with_defaults() -> None:
    """The response object repeats the request's members and fills in the others."""
    body = b"""{"model":"m","input":"x","instructions":"I\xc3\xa9","temperature":1.0,"metadata":
    { "a": "b" },"reasoning":{"effort":"low"},"text":{"verbosity":"low"},"store":true,
    "truncation":"auto","tools":[{"type":"function","name":"f",
    "parameters":{}}],"tool_choice":"required","parallel_tool_calls":false,"max_output_tokens":9}"""
    asked = translate_responses_request(body).context

    raw = responses_stream(asked).feed(chunk({"content": "Hi"}))

    response = events_in(raw)[0]["response"]
    assert b"\n    " not in raw
    assert b'"temperature":1.0' in raw
    assert {name: response[name] for name in asked.echo} == {
        "instructions": "Ié",
        "max_output_tokens": 9,
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": None},
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "tool_choice": "required",
        "tools": [{"type": "function", "name": "f", "parameters": {}}],
        "top_p": None,
        "metadata": {"a": "b"},
    }
    assert (response["store"], response["truncation"], response["status"]) == (
        False,
        "disabled",
        "in_progress",
    )


def test_text_after_reasoning_after_text_opens_new_items() -> None:
    """Whatever is of another kind closes the open item; order is that of appearance."""
    output = last(
        *finished({"content": "a"}, {"reasoning_content": "b"}, {"content": "c", "reasoning": "d"})
    )["output"]

    assert [(item["type"], item["id"]) for item in output] == [
        ("message", "msg_1_0"),
        ("reasoning", "rs_1_1"),
        ("message", "msg_1_2"),
    ]
    assert output[1]["summary"] == [{"type": "summary_text", "text": "bd"}]
    assert unpack_reasoning(output[1]["encrypted_content"]) == PackedReasoning("bd")


def test_refusal_is_a_part_of_its_own() -> None:
    """A refusal has its own delta and done events, also behind text."""
    events = run(*finished({"content": "a"}, {"refusal": "No"}, {"refusal": "."}))

    assert kinds(events)[2:-1] == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "content_part.added",
        "refusal.delta",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
    ]
    assert events[-1]["response"]["output"][0]["content"] == [
        TEXT_ITEM | {"text": "a"},
        {"type": "refusal", "refusal": "No."},
    ]
    assert events[8]["content_index"] == 1


def test_interleaved_calls_stream_side_by_side() -> None:
    """Several calls are open at once, each delta goes to its own output index."""
    events = run(
        *finished(
            tool(0, id="a", name="f", arguments='{"x"'),
            tool(1, id="b", name="g", arguments=""),
            tool(0, arguments=":1}"),
            tool(1, arguments='{"y":2}'),
            {"content": "t"},
            finish="tool_calls",
        )
    )

    deltas = [
        (event["output_index"], event["delta"])
        for event in events
        if event["type"] == "response.function_call_arguments.delta"
    ]
    assert deltas == [(0, '{"x"'), (0, ":1}"), (1, '{"y":2}')]
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["function_call", "function_call", "message"]
    assert [item["arguments"] for item in output[:2]] == ['{"x":1}', '{"y":2}']


def test_call_waits_for_its_name_and_ids_are_never_repeated() -> None:
    """No call is opened without a name; missing and repeated ids become unique ones."""
    history = context(
        input=[
            {"type": "function_call", "call_id": "call_0", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_0", "output": "x"},
        ]
    )

    output = last(
        *finished(
            tool(0, id="call_0", arguments='{"a"'),
            tool(0, name="f", arguments=":1}"),
            tool(1, name="g", arguments="{}"),
            tool(2, id="call_0", name="h", arguments="{}"),
            tool(3, id="lost", arguments="{}"),
        ),
        asked=history,
    )["output"]

    assert [(item["call_id"], item["name"], item["arguments"]) for item in output] == [
        ("call_0_2", "f", '{"a":1}'),
        ("call_1_1", "g", "{}"),
        ("call_0_3", "h", "{}"),
    ]


def test_legacy_function_call_is_a_call() -> None:
    """The old single function_call field is understood."""
    (item,) = last(
        *finished(
            {"function_call": {"name": "f", "arguments": '{"a":'}},
            {"function_call": {"arguments": "1}"}},
            finish="function_call",
        )
    )["output"]

    assert (item["name"], item["arguments"], item["call_id"]) == ("f", '{"a":1}', "call_1_0")


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"input":"a\\nb"}', "a\nb"),
        ('{"input":5}', '{"input":5}'),
        ('{"input":"cut', '{"input":"cut'),
        ("", ""),
    ],
)
def test_custom_call_input_is_unpacked_at_the_end(arguments: str, given: str) -> None:
    """A custom tool gets its text in one delta; arguments of another shape come as they are."""
    asked = msgspec.structs.replace(
        context(), tool_names={"ns__p": ToolName("p", "ns", custom=True)}
    )

    events = run(*finished(tool(0, id="c", name="ns__p", arguments=arguments)), asked=asked)

    assert kinds(events)[2:-1] == [
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
    ]
    assert events[3]["delta"] == given
    assert events[-1]["response"]["output"] == [
        {
            "id": "ctc_1_0",
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": "c",
            "name": "p",
            "input": given,
            "namespace": "ns",
        }
    ]


SIGNED = {"type": "reasoning.text", "text": "plan", "signature": "s"}
REDACTED = {"type": "reasoning.encrypted", "data": "zz"}


@pytest.mark.parametrize(
    ("deltas", "texts", "details"),
    [
        ([{"reasoning_content": "plan"}, {"reasoning_details": [SIGNED]}], ["plan"], [SIGNED]),
        ([{"reasoning_details": [SIGNED]}], ["plan"], [SIGNED]),
        (
            [
                {"reasoning": "pl", "reasoning_details": [{"text": "pl"}]},
                {"reasoning": "an", "reasoning_details": [{"text": "an"}]},
                {"reasoning_details": [{"type": "reasoning.text", "signature": "s"}]},
            ],
            ["plan"],
            [SIGNED],
        ),
        (
            [{"reasoning_details": [{"text": "pl"}]}, {"reasoning_details": [{"summary": "an"}]}],
            ["plan"],
            [],
        ),
        (
            [{"reasoning_details": [{"text": "p"}]}, {"reasoning_details": [SIGNED]}],
            ["p"],
            [SIGNED],
        ),
        ([{"reasoning_details": [REDACTED]}], [], [REDACTED]),
        ([{"content": [{"type": "thinking", "thinking": [{"text": "plan"}]}]}], ["plan"], []),
    ],
)  # fmt: skip
def test_thoughts_of_any_spelling_come_once_and_packed(
    deltas: list[dict[str, Any]], texts: list[str], details: list[dict[str, Any]]
) -> None:
    """Reasoning is read from one member, and signed parts are packed to be sent back."""
    (item,) = last(*finished(*deltas), asked=ASKED)["output"]

    assert [part["text"] for part in item["summary"]] == texts
    packed = unpack_reasoning(item["encrypted_content"])
    assert packed is not None
    assert packed.r == "".join(texts)
    assert [json.loads(bytes(raw)) for raw in packed.d] == details


def test_packed_thought_returns_to_the_upstream() -> None:
    """What the client sends back restores the signed reasoning in the next request."""
    answered = last(
        *finished({"reasoning_content": "plan", "reasoning_details": [SIGNED]}, {"content": "a"}),
        asked=ASKED,
    )
    body = json.dumps({"model": "m", "input": answered["output"]}).encode()

    (message,) = json.loads(translate_responses_request(body).body)["messages"]

    assert message == {
        "role": "assistant",
        "content": "a",
        "reasoning_content": "plan",
        "reasoning_details": [SIGNED],
    }


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("odd", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_finish_reason_is_the_status(finish: str, status: str, reason: str | None) -> None:
    """Length and content filter are incomplete, anything else is completed."""
    events = run(*finished({"content": "a"}, finish=finish))

    response = events[-1]["response"]
    assert events[-1]["type"] == f"response.{status}"
    assert response["status"] == status
    assert (response["incomplete_details"] or {}).get("reason") == reason


@pytest.mark.parametrize(
    ("tail", "code", "message"),
    [
        ([b""], "server_error", "Upstream stream ended before completion"),
        ([b"data: {oops\n\n"], "server_error", "Upstream sent malformed data"),
        (
            [b'data: {"error":{"code":429,"message":"Slow"}}\n\n'],
            "rate_limit_exceeded",
            "Slow",
        ),
        (
            [b'event: error\ndata: {"message":"Boom"}\n\n'],
            "server_error",
            "Boom",
        ),
        (
            [b'data: {"error":{"code":"context_length_exceeded","message":"Long"}}\n\n'],
            "context_length_exceeded",
            "Long",
        ),
        (
            [b'data: {"error":{"type":"overloaded_error","message":"Busy"}}\n\n'],
            "server_is_overloaded",
            "Busy",
        ),
        (
            [b'data: {"error":{"code":"insufficient_quota","message":"Pay us"}}\n\n'],
            "server_is_overloaded",
            "The upstream provider is temporarily unavailable",
        ),
        (
            [chunk({}, "insufficient_system_resource")],
            "server_is_overloaded",
            "upstream is overloaded",
        ),
        ([chunk({}, "error")], "server_error", "The upstream reported an error."),
    ],
)
def test_failure_in_the_stream_holds_finished_items_only(
    tail: list[bytes], code: str, message: str
) -> None:
    """An error or a cut is response.failed; what was still open is not closed."""
    head = [chunk({"reasoning_content": "a"}), chunk({"content": "b"})]

    events = run(*head, *tail, chunk({"content": "late"}), clean=False)

    assert kinds(events)[-2:] == ["output_text.delta", "failed"]
    response = events[-1]["response"]
    assert response["error"] == {"code": code, "message": message}
    assert response["status"] == "failed"
    assert [item["type"] for item in response["output"]] == ["reasoning"]


def test_error_as_first_event_is_an_http_error() -> None:
    """Nothing is written before the first event; the error keeps its status."""
    stream = responses_stream(context())

    assert stream.feed(b": ping\n\n") == b""
    assert stream.feed(b'data: {"error":{"code":429,"message":"Slow"}}\n\n') == b""

    assert (stream.started, stream.done, stream.failed) == (False, True, True)
    assert stream.error_before_commit is not None
    assert stream.error_before_commit.status == 429
    assert json.loads(stream.error_before_commit.body)["error"]["code"] == "rate_limit_exceeded"
    events = events_in(stream.error_event)
    assert kinds(events) == ["created", "in_progress", "failed"]


def test_stream_without_any_event_is_an_http_error() -> None:
    """An empty body is no response."""
    stream = responses_stream(context())

    assert stream.end(clean=True) == b""
    assert stream.error_before_commit is not None
    assert stream.error_before_commit.status == 502


@pytest.mark.parametrize(
    "tail",
    [
        [chunk(None, usage=USAGE)],
        [chunk(None, usage=USAGE), DONE],
        [DONE],
        [],
        [chunk(None, usage=USAGE)[:-2]],
    ],
)
def test_stream_after_finish_is_complete_however_it_ends(tail: list[bytes]) -> None:
    """After a finish reason usage, [DONE], the end and a reset all complete the response."""
    for clean in (True, False):
        events = run(chunk({"content": "a"}), chunk({}, "stop"), *tail, clean=clean)
        assert events[-1]["type"] == "response.completed"


def test_usage_in_the_finish_chunk_completes_at_once() -> None:
    """Nothing more can come after the finish reason and usage."""
    stream = responses_stream(context())
    stream.feed(chunk({"content": "a"}, usage={"prompt_tokens": 1}))
    assert not stream.done

    stream.feed(chunk({}, "stop", usage=USAGE))

    assert stream.done
    assert not stream.failed


def test_silence_after_finish_completes_on_the_clients_timer() -> None:
    """The client may finalise a stream whose usage never comes, but not before the finish."""
    stream = responses_stream(context())
    assert stream.feed(chunk({"content": "a"})) != b""
    assert stream.expire_after_finish() == b""
    assert not stream.finish_seen

    stream.feed(chunk({}, "stop"))

    assert stream.finish_seen
    assert b"response.completed" in stream.expire_after_finish()
    assert stream.done


def test_done_without_finish_reason_completes() -> None:
    """[DONE] says that the response is whole even if the finish reason was forgotten."""
    assert run(chunk({"content": "a"}), DONE)[-1]["type"] == "response.completed"


def test_late_deltas_between_finish_and_usage_are_delivered() -> None:
    """Text behind the finish reason opens a new item; a closed call takes nothing more."""
    output = last(
        chunk({"content": "a"}),
        chunk(tool(0, id="c", name="f", arguments="{}")),
        chunk({}, "stop"),
        chunk({"content": "b"}),
        chunk(tool(0, arguments=" ")),
        DONE,
    )["output"]

    assert [item["type"] for item in output] == ["message", "function_call", "message"]
    assert output[1]["arguments"] == "{}"


def test_prompt_filter_chunk_without_id_does_not_name_the_response() -> None:
    """Azure's first chunk has no id; ids derive from the chunk that has one."""
    first = b'data: {"id":"","choices":[],"prompt_filter_results":[]}\n\n'

    assert last(first, *finished({"content": "a"}))["id"] == "resp_1"
    assert last(chunk({"content": "a"}, id=None), DONE)["id"] == "resp_unknown"
    assert last(chunk({"content": "a"}, id="gen/1 2"), DONE)["id"] == "resp_gen12"


def test_other_choices_are_ignored() -> None:
    """Only choice 0 is read."""
    other = b'data: {"id":"x","choices":[{"index":1,"delta":{"content":"no"}}]}\n\n'

    assert last(other, *finished({"content": "a"}))["output"][0]["content"][0]["text"] == "a"


def test_half_emoji_are_joined_over_deltas() -> None:
    """An emoji cut into two deltas arrives whole in text, reasoning and arguments."""
    raw = [
        rb'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"a\ud83d"}}]}' + b"\n\n",
        rb'data: {"choices":[{"delta":{"content":"\ude00b\ud83d"}}]}' + b"\n\n",
        rb'data: {"choices":[{"delta":{"reasoning":"\ud83d","reasoning_details":'
        rb'[{"signature":"\ud83d"}]}}]}' + b"\n\n",
        rb'data: {"choices":[{"delta":{"tool_calls":[{"id":"\ud83d","function":'
        rb'{"name":"f\ud83d","arguments":"\ud83d"}}]}}]}' + b"\n\n",
    ]

    output = last(*raw, DONE, asked=ASKED)["output"]

    assert output[0]["content"][0]["text"] == "a😀b\ufffd"
    assert output[1]["summary"][0]["text"] == "\ufffd"
    assert (output[2]["call_id"], output[2]["name"]) == ("\ufffd", "f\ufffd")
    assert output[2]["arguments"] == "\ufffd"


def answer(message: dict[str, Any], finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"id": "chatcmpl-1", "choices": [choice], "usage": USAGE}).encode()


MESSAGES: list[dict[str, Any]] = [
    {"content": "a"},
    {"content": None, "refusal": "No."},
    {"content": "", "reasoning_content": "t", "reasoning_details": [SIGNED, REDACTED]},
    {"content": "a", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]},
    {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
]


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_answer_equals_the_last_event_of_its_stream(message: dict[str, Any], finish: str) -> None:
    """The JSON response is what the last event of the same stream holds."""
    made = json.loads(translate_responses_response(answer(message, finish), ASKED))

    assert made == last(*finished(message, finish=finish), asked=ASKED)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"choices":[{"delta":{}}]}'])
def test_answer_without_a_message_is_malformed(body: bytes) -> None:
    """What is no chat completion is the upstream's fault."""
    with pytest.raises(GatewayError) as caught:
        translate_responses_response(body, ASKED)

    assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED
