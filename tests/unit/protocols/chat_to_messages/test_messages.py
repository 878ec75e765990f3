"""OpenAI chat messages as Anthropic turns."""

from __future__ import annotations

import base64
import json

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_to_messages.request import translate_request
from gateway.protocols.translate.stream import TranslationRoute
from tests.support.chat_to_messages import calling, result, sent, text, turns, user


def refusal(*messages):
    """Return the error these messages are refused with."""
    with pytest.raises(GatewayError) as caught:
        sent(*messages)
    return caught.value


ASSISTANT = {"role": "assistant", "content": "b"}


def test_leading_system_messages_become_system_blocks():
    """One block a message or part; cache markers stay, empty text goes."""
    marker = {"type": "ephemeral"}

    body = sent(
        {"role": "system", "content": "one"},
        {"role": "developer", "content": [text("two", cache_control=marker), text("")]},
        user("x"),
    )

    assert body["system"] == [text("one"), text("two", cache_control=marker)]
    assert body["messages"] == [user_turn(text("x"))]


def test_cache_marker_beside_the_content_marks_the_last_block():
    """Of any role's message and of a call; the AI SDK writes it there, outside the content."""
    marker = {"type": "ephemeral"}
    call = calling("{}")
    call["tool_calls"][0]["cache_control"] = marker

    body = sent(
        {"role": "system", "content": "one", "cache_control": marker},
        user(text("a"), text("b")) | {"cache_control": marker},
        call,
        result("r") | {"cache_control": marker},
    )

    assert body["system"] == [text("one", cache_control=marker)]
    asked, called, answered = (turn["content"] for turn in body["messages"])
    assert asked == [text("a"), text("b", cache_control=marker)]
    assert called[0]["cache_control"] == marker
    assert answered[0]["cache_control"] == marker


def test_cache_marker_beside_the_content_leaves_a_parts_own_and_thoughts_alone():
    """A marked part keeps its marker; reasoning may carry none."""
    own, outer = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}
    thought = {"type": "thinking", "thinking": "t", "signature": "sig"}

    marked = turns(user([text("a", cache_control=own)]) | {"cache_control": outer})
    thoughtful = turns(
        user("x"),
        {"role": "assistant", "thinking_blocks": [thought], "cache_control": outer},
        user("y"),
    )

    assert marked[0]["content"] == [text("a", cache_control=own)]
    assert thoughtful[1]["content"] == [thought]


def user_turn(*blocks):
    """Return a user's turn."""
    return {"role": "user", "content": list(blocks)}


@pytest.mark.parametrize(
    ("following", "kept"), [([], True), ([ASSISTANT], True), ([user("c")], False)]
)
def test_later_system_message_stays_where_anthropic_allows_it(following, kept):
    """After a user's turn, and last or before an assistant's; else it is a reminder."""
    found = turns(user("a"), {"role": "developer", "content": "rule"}, *following)

    assert ({"role": "system", "content": [text("rule")]} in found) is kept
    reminder = "<system-reminder>\nrule\n</system-reminder>"
    assert (text(reminder) in found[0]["content"]) is not kept


def test_later_system_message_is_a_reminder_for_models_without_them():
    """Older models take system messages at the start only."""
    found = turns(user("a"), {"role": "system", "content": "r"}, dialect="anthropic-legacy")

    assert found == [user_turn(text("a"), text("<system-reminder>\nr\n</system-reminder>"))]


def test_system_message_with_an_image_is_refused():
    """System text only."""
    image = {"type": "image_url", "image_url": {"url": "https://e.com/x.png"}}

    assert refusal({"role": "system", "content": [image]}, user("x")).param == "messages.0"


def test_neighbours_of_one_role_merge():
    """Anthropic's turns alternate."""
    found = turns(user("a"), user("b"), ASSISTANT, {"role": "assistant", "content": "c"}, user("d"))

    assert [turn["role"] for turn in found] == ["user", "assistant", "user"]
    assert found[0]["content"] == [text("a"), text("b")]
    assert found[1]["content"] == [text("b"), text("c")]


def test_tool_results_come_first_in_their_turn():
    """Whatever the client put between them, Anthropic wants results before text."""
    found = turns(
        user("x"),
        {"role": "assistant", "tool_calls": [*calling("{}")["tool_calls"],
                                             *calling("{}", "c2")["tool_calls"]]},
        result("1"), {"role": "system", "content": "hurry"}, result("2", "c2"), user("go"),
    )  # fmt: skip

    assert [block["type"] for block in found[-1]["content"]] == [
        "tool_result", "tool_result", "text", "text",
    ]  # fmt: skip


def test_empty_and_blank_text_is_left_out_with_its_message():
    """Anthropic refuses empty and white-space-only text blocks."""
    found = turns(
        user("a"), {"role": "assistant", "content": ""}, user(" \n"), user(text(""), text("b"))
    )

    assert found == [user_turn(text("a"), text("b"))]


def test_white_space_at_the_end_of_a_last_assistant_message_is_removed():
    """Anthropic refuses it in a prefill."""
    assert turns(user("a"), {"role": "assistant", "content": "{ \n"})[-1]["content"] == [text("{")]


def test_assistant_content_refusal_and_calls_keep_their_order():
    """Text first, then the refusal, then calls."""
    message = {**calling('{"x":1}'), "content": [text("t")], "refusal": "no"}

    assert turns(user("a"), message, result("r"))[1]["content"] == [
        text("t"), text("no"),
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (r'"{\"a\":1.0,\"b\":12345678901234567890123}"', b'{"a":1.0,"b":12345678901234567890123}'),
        ('""', b"{}"),
        ("null", b"{}"),
        (r'"\"{\\\"a\\\":1}\""', b'{"a":1}'),
        ('{"a":1.0}', b'{"a":1.0}'),
        ('"[1]"', b'{"INVALID_JSON":"[1]"}'),
        ('"{\\"a\\":"', b'{"INVALID_JSON":"{\\"a\\":"}'),
        ('"3"', b'{"INVALID_JSON":"3"}'),
        ("[1]", b'{"INVALID_JSON":"[1]"}'),
        (r'"{\"a\":\"\\ud83d\"}"', b'{"a":"\\ufffd"}'),
    ],
)
def test_arguments_become_the_object_they_hold(arguments, expected):
    """Numbers keep their spelling; what holds no object is shown to the model as it is."""
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":'
        b'[{"id":"c","function":{"name":"f","arguments":%b}}]}]}' % arguments.encode()
    )
    route = TranslationRoute("up", capabilities("anthropic", {}))

    assert b'"input":%b}' % expected in translate_request(body, route).body


def test_custom_call_in_the_history_is_carried():
    """A session that changed models stays usable."""
    custom = {"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}}

    found = turns(user("a"), {"role": "assistant", "tool_calls": [custom]}, result("ok", "c"))

    assert found[1]["content"][0]["input"] == {"input": "ls"}


def test_tool_ids_that_anthropic_refuses_are_encoded_alike_in_call_and_result():
    """Call and result must still match."""
    found = turns(user("a"), calling("{}", "functions.f:0"), result("1", "functions.f:0"))

    call_id = found[1]["content"][0]["id"]
    assert call_id.startswith("gwid_")
    assert found[2]["content"][0]["tool_use_id"] == call_id


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("18", "18"),
        ("", ""),
        (None, ""),
        ([], ""),
        ([text("a"), text("")], [text("a")]),
        ([{"type": "image_url", "image_url": "https://e.com/i.png"}],
         [{"type": "image", "source": {"type": "url", "url": "https://e.com/i.png"}}]),
    ],
)  # fmt: skip
def test_tool_result_keeps_its_content(content, expected):
    """A string stays one, parts become blocks."""
    found = turns(user("a"), calling("{}"), result(content))

    assert found[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": expected}
    ]


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"reasoning_content": "t"}, []),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "S"}]},
         [{"type": "thinking", "thinking": "t", "signature": "S"}]),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "zz"}]},
         [{"type": "redacted_thinking", "data": "zz"}]),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "S"},
                              {"type": "redacted_thinking", "data": "d"}]},
         [{"type": "thinking", "thinking": "t", "signature": "S"},
          {"type": "redacted_thinking", "data": "d"}]),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "gw1."}]}, []),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "t"}]}, []),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "z",
                                 "format": "openai-responses-v1"}]}, []),
        ({"reasoning_details": "broken", "thinking_blocks": [5]}, []),
        ({"reasoning_details": [{"type": "reasoning.text", "signature": "S"}],
          "thinking_blocks": [{"type": "thinking", "thinking": "twice", "signature": "S"}]},
         [{"type": "thinking", "thinking": "", "signature": "S"}]),
    ],
)  # fmt: skip
def test_only_thoughts_that_anthropic_made_go_back(extra, expected):
    """They come first in their message; all others are refused upstream, so they stay here."""
    found = turns(user("a"), {"role": "assistant", "content": "x", **extra}, user("b"))

    assert found[1]["content"] == [*expected, text("x")]


def test_thoughts_can_be_left_out_for_the_retry():
    """An upstream that rejects a signature gets the same request without reasoning."""
    thought = {"reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "S"}]}

    found = turns(
        user("a"), {"role": "assistant", "content": "x", **thought}, carry_reasoning=False
    )

    assert found[1]["content"] == [text("x")]


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("data:image/jpg;base64,AA", {"type": "base64", "media_type": "image/jpeg", "data": "AA"}),
        ("DATA:image/PNG;x=y;base64,AA",
         {"type": "base64", "media_type": "image/png", "data": "AA"}),
        ("HTTP://e.com/a", {"type": "url", "url": "HTTP://e.com/a"}),
    ],
)  # fmt: skip
def test_image_becomes_base64_or_url(url, source):
    """Only what Anthropic accepts."""
    part = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}

    assert turns(user([part]))[0]["content"] == [{"type": "image", "source": source}]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AA"}},
        {"type": "image_url", "image_url": {"url": "data:image/png,AA"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url"},
        {"type": "file", "file": {"file_id": "file_1"}},
        {"type": "file"},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,AA"}},
        {"type": "file", "file": {"file_data": "AA", "filename": "a.bin"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,A"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,YQ==YQ=="}},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "https://e.com/v"}},
        {"type": "hologram"},
    ],
)
def test_part_that_cannot_be_carried_is_refused_by_its_message(part):
    """The client learns which message, before any upstream call."""
    error = refusal(user("a"), user([part]))

    assert error.param == "messages.1"
    assert error.surface.openai_status == 400


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ({"filename": "a.pdf", "file_data": "JVBERi0="},
         {"type": "document", "title": "a.pdf",
          "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}),
        ({"file_data": "data:text/markdown;base64," + base64.b64encode("é".encode()).decode()},
         {"type": "document",
          "source": {"type": "text", "media_type": "text/plain", "data": "é"}}),
        ({"file_data": "data:text/plain,a%20b", "filename": "n"},
         {"type": "document", "title": "n",
          "source": {"type": "text", "media_type": "text/plain", "data": "a b"}}),
    ],
)  # fmt: skip
def test_file_in_place_becomes_a_document(file, expected):
    """PDF as base64, text as text."""
    assert turns(user([{"type": "file", "file": file}]))[0]["content"] == [expected]


def test_what_a_model_cannot_see_becomes_a_visible_note():
    """Agents resend images: a 400 would end the session."""
    image = {"type": "image_url", "image_url": {"url": "https://e.com/x.png"}}
    pdf = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA"}}

    found = turns(user(image, pdf), caps={"images": False, "files": False})

    assert [block["text"] for block in found[0]["content"]] == [
        "[image omitted: this model does not accept images]",
        "[document omitted: this model does not accept files]",
    ]


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ({"mode": "explicit"}, {"type": "ephemeral"}),
        ({"mode": "explicit", "ttl": "30m"}, {"type": "ephemeral"}),
        ({"mode": "explicit", "ttl": "12h"}, {"type": "ephemeral", "ttl": "1h"}),
    ],
)
def test_cache_breakpoint_becomes_a_cache_marker(mark, expected):
    """The longest lifetime becomes Anthropic's longest."""
    part = text("x", prompt_cache_breakpoint=mark)

    assert turns(user([part]))[0]["content"][0]["cache_control"] == expected


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "name": "f", "content": "1"}, "messages.1"),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": ""}}, "messages.1"),
        ({"role": "wizard", "content": "x"}, "messages.1.role"),
        ({"role": "tool", "content": "x"}, "messages.1.tool_call_id"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "messages.1.tool_calls"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
         "messages.1.tool_calls.0.id"),
        ({"role": "user", "content": 5}, "messages.1.content"),
    ],
)  # fmt: skip
def test_broken_message_is_refused_by_name(message, param):
    """The error says which message and which member."""
    assert refusal(user("a"), message).param == param


@pytest.mark.parametrize("messages", [[], [{"role": "system", "content": " "}], [user("")]])
def test_request_without_anything_to_answer_is_refused(messages):
    """Anthropic needs a message that is not the system's."""
    error = refusal(*messages)

    assert (error.kind, error.param) == (ErrorKind.BAD_REQUEST, "messages")


def test_budget_is_allowed_when_the_last_tool_turn_begins_with_its_thought():
    """A signed history keeps thinking on."""
    route = TranslationRoute("up", capabilities("anthropic-legacy", {}))
    thought = {"reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "S"}]}
    messages = [user("x"), {**calling("{}"), **thought}, result("1")]
    request = {"model": "m", "messages": messages, "reasoning_effort": "low"}

    body = json.loads(translate_request(json.dumps(request).encode(), route).body)

    assert body["thinking"]["budget_tokens"] == 4096


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_last_of_only_system_messages_is_the_users(role):
    """Anthropic wants a user's turn, and OpenAI serves such requests."""
    body = sent({"role": "system", "content": "a"}, {"role": role, "content": "b"})

    assert body["system"] == [text("a")]
    assert body["messages"] == [{"role": "user", "content": [text("b")]}]
