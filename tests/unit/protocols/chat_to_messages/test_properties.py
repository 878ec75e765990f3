"""Chat completion requests of any shape, on their way to an Anthropic upstream."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_to_messages.request import translate_request
from gateway.protocols.translate.stream import TranslationRoute
from tests.support.chat_to_messages import sent, user


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"messages":[]}', b'{"model":5}', b"\xff\xfe",
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"z":"\xff"}',
        b'{"model":"m","messages":{}}', b'{"model":"m","messages":[1]}',
        b'{"model":"m","z":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)  # fmt: skip
def test_body_that_is_no_request_is_the_clients_mistake(body):
    """Anything unreadable is a 400, never another exception."""
    route = TranslationRoute("up", capabilities("anthropic", {}))

    with pytest.raises(GatewayError) as caught:
        translate_request(body, route)

    assert caught.value.kind is ErrorKind.BAD_REQUEST


def test_lone_surrogate_becomes_a_replacement_character():
    """Agents resend half emoji on every turn; the session must stay usable."""
    route = TranslationRoute("up", capabilities("anthropic", {}))
    body = rb'{"model":"m","messages":[{"role":"user","content":"a\ud83d b \ud83d\ude00"}]}'

    sent = json.loads(translate_request(body, route).body)

    assert sent["messages"][0]["content"][0]["text"] == "a� b 😀"


WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
PART = st.fixed_dictionaries({"type": st.just("text"), "text": WORDS})
CONTENT = WORDS | st.lists(PART, max_size=3)
MESSAGE = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "developer"]),
                           "content": CONTENT}),
    st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": WORDS, "content": CONTENT}),
    st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": st.none() | CONTENT,
         "tool_calls": st.lists(st.fixed_dictionaries({
             "id": WORDS,
             "function": st.fixed_dictionaries({
                 "name": WORDS,
                 "arguments": st.dictionaries(WORDS, st.integers() | WORDS).map(json.dumps)})}),
             max_size=2)}),
)  # fmt: skip


def texts_of(content):
    """Return the words of a content, those without any letter left out."""
    parts = [content] if isinstance(content, str) else [part["text"] for part in content or ()]
    return [words for words in parts if words and not words.isspace()]


@given(st.lists(MESSAGE, max_size=8))
def test_words_arguments_and_alternation_are_conserved(messages):
    """Every word and argument arrives once, in turns that alternate."""
    messages = [user("first"), *messages, user("last")]

    body = sent(*messages)

    written = json.dumps(body, ensure_ascii=False)
    for message in messages:
        for words in texts_of(message.get("content")):
            assert json.dumps(words, ensure_ascii=False)[1:-1] in written
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    found = [
        block["input"]
        for turn in body["messages"] for block in turn["content"] if block["type"] == "tool_use"
    ]  # fmt: skip
    assert found == [json.loads(call["function"]["arguments"]) for call in calls]
    roles = [turn["role"] for turn in body["messages"]]
    assert all(first != second for first, second in itertools.pairwise(roles))
    assert all(turn["content"] for turn in body["messages"])


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
FIELD = st.sampled_from(
    ["messages", "tools", "tool_choice", "response_format", "thinking", "stop", "user",
     "max_tokens", "temperature", "stream_options", "reasoning_effort", "n",
     "functions", "seed", "service_tier"]
)  # fmt: skip


@given(st.dictionaries(FIELD, ANY_JSON), st.booleans(), ANY_JSON)
def test_any_request_is_translated_or_refused(fields, keeps_messages, odd):
    """Nothing but a gateway error of the client's kind ever comes out."""
    request = {"model": "m", **fields}
    if keeps_messages:
        request["messages"] = [user("x"), {"role": "assistant", "content": "y", "refusal": None,
                               "reasoning_details": odd, "thinking_blocks": odd}]  # fmt: skip
    route = TranslationRoute("up", capabilities("anthropic", {}))
    try:
        answer = translate_request(json.dumps(request).encode(), route)
    except GatewayError as error:
        assert error.surface.openai_status == 400
    else:
        assert json.loads(answer.body)["model"] == "up"


@given(st.binary(max_size=60))
def test_any_bytes_are_translated_or_refused(body):
    """Arbitrary bodies never raise anything else."""
    route = TranslationRoute("up", capabilities("anthropic", {}))

    with pytest.raises(GatewayError):
        translate_request(body, route)
