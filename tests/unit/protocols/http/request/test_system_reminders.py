"""System messages between the others, for Messages endpoints that do not accept them."""

from __future__ import annotations

import json

import pytest

from gateway.protocols.http.request.system_reminders import (
    has_system_messages,
    with_system_reminders,
)

NOTE = "<system-reminder>\nnote\n</system-reminder>"


def test_all_other_bytes_are_kept():
    """White space, escapes and unknown members of the message, too."""
    body = (
        b'{ "system":"S", "messages" : [{"role" : "user","content":"h\\u00e9 1.0"}, '
        b'{ "content":"a\\"b", "x":1.0, "role" :"system" }], "n":1e5}'
    )

    assert with_system_reminders(body) == (
        b'{ "system":"S", "messages" : [{"role" : "user","content":"h\\u00e9 1.0"},'
        b'{ "content":"<system-reminder>\\na\\"b\\n</system-reminder>", "x":1.0, "role" :"user" }]'
        b', "n":1e5}'
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"system":"S","messages":[{"role":"user","content":"Hi"}]}',
        b'{"messages":[{"role":"user","content":[{"role":"system"}]}]}',
        b'{"messages":[{"role":"user","content":[{"role":"system"}]} , {"role":"assistant"}]}',
        b'{"messages":[{"role":"user","content":"\\"role\\":\\"system\\""}]}',
        b'{"messages":"\\"role\\"", "x":{"role":"system"}}',
    ],
)
def test_a_request_without_system_messages_is_the_same_object(body):
    """Only the role of a message counts."""
    assert with_system_reminders(body) is body or with_system_reminders(body) == body


@pytest.mark.parametrize(
    ("roles", "sent"),
    [
        ("usau", ["user", NOTE, "assistant", "user"]),
        ("uasu", ["user", "assistant", "user", NOTE]),
        ("uassu", ["user", "assistant", "user", NOTE, NOTE]),
        ("uasau", ["user", "assistant", NOTE, "assistant", "user"]),
        ("uas", ["user", "assistant", NOTE]),
        ("su", [NOTE, "user"]),
    ],
)
def test_a_reminder_never_stands_between_calls_and_results(roles, sent):
    """It follows the user's message that may hold the results."""
    names = {"u": "user", "a": "assistant", "s": "system"}
    messages = [
        {"role": names[role], "content": "note" if role == "s" else names[role]} for role in roles
    ]

    written = json.loads(with_system_reminders(json.dumps({"messages": messages}).encode()))

    assert [message["content"] for message in written["messages"]] == sent
    assert "system" not in {message["role"] for message in written["messages"]}


def test_blocks_stand_between_the_tags():
    """Cache markers and unknown blocks stay."""
    block = {"type": "text", "text": "note", "cache_control": {"type": "ephemeral"}}
    message = {"role": "system", "content": [block]}

    written = json.loads(with_system_reminders(json.dumps({"messages": [message]}).encode()))

    texts = [part["text"] for part in written["messages"][0]["content"]]
    assert texts == ["<system-reminder>", "note", "</system-reminder>"]
    assert written["messages"][0]["content"][1] == block


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (b'{"role":"system"}', True),
        (b'{"role" \t: \n"system"}', True),
        (b'{"role":' + b" " * 300 + b'"system"}', True),
        (b'{"role"' + b" " * 300 + b':"system"}', True),
        (b'{"text":"\\"role\\"","system":1}', False),
        (b'{"roles":"system_x","system":"s"}', False),
        (b'{"type":"system"}', False),
        (b'["role","system"]', False),
    ],
)
def test_system_messages_are_found_however_they_are_spaced(message: bytes, found: bool) -> None:
    """A member of another name, or an element, is none."""
    assert has_system_messages(message) is found


def test_a_body_with_the_string_very_often_is_not_searched_to_its_end() -> None:
    """It may contain system messages; that it has none is found when they are looked for."""
    body = b'{"messages":[{"role":"user","content":[%b]}]}' % b",".join([b'"system"'] * 1000)
    assert has_system_messages(body)
    assert with_system_reminders(body) is body
