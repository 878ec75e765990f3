"""Requests of one conversation have one hash, turn after turn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Wire
from gateway.protocols.http.request.conversation import SESSION_HEADERS, conversation_of
from gateway.protocols.http.request.fields import decode_call

SYSTEM = {"role": "system", "content": 'You "help". [{'}
HELLO = {"role": "user", "content": "Hello } ] \\ there"}
ANSWER = {"role": "assistant", "content": "Hi"}


def hashed(
    body: dict[str, Any],
    wire: Wire = Wire.OPENAI,
    *headers: tuple[bytes, bytes],
    indent: Any = None,
) -> int | None:
    raw = json.dumps({"model": "m", **body}, indent=indent).encode()
    return conversation_of(headers, decode_call(raw, wire), wire, raw)


@pytest.mark.parametrize("header", sorted(SESSION_HEADERS))
def test_session_header_decides(header: bytes) -> None:
    """Whatever the messages say."""
    one = hashed({"messages": [HELLO]}, Wire.OPENAI, (header, b"s1"))

    assert one == hashed({"messages": [ANSWER]}, Wire.OPENAI, (b"x", b"y"), (header, b"s1"))
    assert one != hashed({"messages": [HELLO]}, Wire.OPENAI, (header, b"s2"))


def test_cache_key_and_user_id_decide_next() -> None:
    """OpenAI's `prompt_cache_key`, Anthropic's `metadata.user_id`."""
    keyed = {"prompt_cache_key": "k"}
    user = {"metadata": {"user_id": "u"}, "max_tokens": 1}

    assert hashed({**keyed, "messages": [HELLO]}) == hashed({**keyed, "messages": [ANSWER]})
    assert hashed({**user, "messages": [HELLO]}, Wire.ANTHROPIC) == hashed(
        {**user, "messages": [ANSWER]}, Wire.ANTHROPIC
    )


@pytest.mark.parametrize("first", [[HELLO], [SYSTEM, HELLO], [SYSTEM, SYSTEM, HELLO]])
def test_later_turns_have_the_hash_of_the_first(first: list[dict[str, str]]) -> None:
    """The system prompts and the first message are repeated by every turn."""
    turns = [hashed({"messages": [*first, *more]}) for more in ([], [ANSWER], [ANSWER, HELLO])]

    assert turns[0] is not None
    assert len(set(turns)) == 1


@pytest.mark.parametrize("wire", list(Wire))
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (",\n ", " : ")])
@pytest.mark.parametrize("content", ["Hello", [{"type": "text", "text": "Hello"}], [{"a": 1}]])
@pytest.mark.parametrize("system", [[{"type": "text", "text": "Be brief."}], "Be brief.", None])
@pytest.mark.parametrize("system_at", [None, 0, 3])
def test_small_and_large_turns_have_one_hash(
    wire: Wire, separators: tuple[str, str], content: Any, system: Any, system_at: int | None
) -> None:
    """Large bodies are read by members; small ones are searched."""
    hashes = []
    for text in ("Hi", "Hi" * 5000):
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": text}]
        members: list[tuple[str, Any]] = [("model", "m"), ("max_tokens", 1), ("messages", messages)]
        if system_at is not None and wire is Wire.ANTHROPIC:
            members.insert(system_at, ("system", system))
        elif system_at is not None:
            messages.insert(0, {"role": "system", "content": system})
        raw = json.dumps(dict(members), separators=separators).encode()
        hashes.append(conversation_of((), decode_call(raw, wire), wire, raw))

    assert hashes[0] is not None
    assert hashes[0] == hashes[1]


def test_names_within_other_members_of_a_large_body_do_not_count() -> None:
    """A tool's schema may have properties of any name."""
    tool = {"system": "A", "messages": [HELLO], "x": "x" * 5000}
    given = {"max_tokens": 1, "tools": [tool], "messages": [ANSWER]}

    assert hashed(given, Wire.ANTHROPIC) == hashed(
        {"max_tokens": 1, "x": "x" * 5000, "messages": [ANSWER]}, Wire.ANTHROPIC
    )


@pytest.mark.parametrize("indent", [None, 1])
def test_other_beginnings_have_other_hashes(indent: int | None) -> None:
    """Another system prompt or another first message is another conversation."""
    other = {"role": "user", "content": "Bye"}
    bodies: list[dict[str, Any]] = [
        {"messages": [SYSTEM, HELLO]},
        {"messages": [SYSTEM, other]},
        {"messages": [HELLO]},
        {"messages": [other]},
    ]

    assert len({hashed(body, indent=indent) for body in bodies}) == 4


def test_system_of_messages_api_is_a_part() -> None:
    """It is a member of its own there, before or after the messages."""
    given = {"max_tokens": 1, "messages": [HELLO]}
    one = hashed({"system": "A", **given}, Wire.ANTHROPIC)

    assert one == hashed({**given, "system": "A"}, Wire.ANTHROPIC)
    assert one != hashed({"system": "B", **given}, Wire.ANTHROPIC)
    assert one != hashed(given, Wire.ANTHROPIC)


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"input": "text"}, {"messages": "x"}])
def test_request_without_a_beginning_has_none(body: dict[str, Any]) -> None:
    """Embeddings, for example."""
    assert hashed(body) is None


@pytest.mark.parametrize("role", ["user", "system"])
@pytest.mark.parametrize("unit", ["x", "{}", '"a": {b'])
def test_long_parts_are_compared_by_their_start(role: str, unit: str) -> None:
    """A large prompt is not hashed as a whole; that of the system has a length, too."""
    long = unit * 50_000

    def asked(text: str) -> int | None:
        return hashed({"messages": [{"role": role, "content": text}, HELLO]})

    assert asked(long) == asked(long[:-1] + "y")
    assert (asked(long) == asked(long + "x")) == (role == "user")
    assert asked(long) != asked("y" + long[1:])


@pytest.mark.parametrize("size", [3900, 4030, 4096, 5000])
def test_message_that_ends_in_a_number_is_one_beginning(size: int) -> None:
    """Later turns do not change what is hashed of it."""
    message = {"role": "user", "content": "x" * size, "number": 1}

    assert hashed({"messages": [message]}) == hashed({"messages": [message, ANSWER, HELLO]})
