"""
What real agents sent, and what their upstream must get for it.

`requests/` holds bodies of Claude Code 2.1.330, OpenCode 1.18.33, OpenClaw 2026.9.6 and Codex
0.169.0 on their way to the gateway: all members as they were, but long prose cut to a sentence,
most tools left out, ids and paths replaced. `upstream/` holds the translation for a route, reviewed
by hand.

`pytest tests/golden --update-golden` writes `upstream/` anew: read the difference like code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.protocols.openai_responses.request import translate_responses_request
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_to_messages import request as openai_anthropic_request
from gateway.protocols.translate.messages_to_chat import request as anthropic_openai_request
from gateway.protocols.translate.stream import TranslationRoute

FOLDER = Path(__file__).parent
UPDATED = "the expected file was rewritten: run again without --update-golden"

Translated = tuple[bytes, tuple[str, ...]]


def from_messages(body: bytes, dialect: str) -> Translated:
    """A Messages request for an upstream of the OpenAI wire."""
    made = anthropic_openai_request.translate_request(body, route_to(dialect))
    return made.body, made.dropped


def from_chat(body: bytes, dialect: str) -> Translated:
    """A chat request for an upstream of the Anthropic wire."""
    made = openai_anthropic_request.translate_request(body, route_to(dialect))
    return made.body, made.dropped


def from_responses(body: bytes, dialect: str) -> Translated:
    """A Responses request as the chat request that it becomes, and that one for Anthropic."""
    chat = translate_responses_request(body)
    if dialect == "chat":
        return chat.body, chat.dropped
    upstream, dropped = from_chat(chat.body, dialect)
    return upstream, (*chat.dropped, *dropped)


def route_to(dialect: str) -> TranslationRoute:
    return TranslationRoute("upstream-model", capabilities(dialect, {}), max_output=64_000)


CASES: dict[tuple[str, str], Callable[[bytes, str], Translated]] = {
    ("claude_code_first_turn", "deepseek"): from_messages,
    ("claude_code_first_turn", "openai"): from_messages,
    ("claude_code_write_result", "deepseek"): from_messages,
    ("claude_code_write_result", "openai"): from_messages,
    ("claude_code_image_result", "deepseek"): from_messages,
    ("claude_code_image_result", "openai"): from_messages,
    ("claude_code_failed_command", "moonshot"): from_messages,
    ("claude_code_tool_search", "minimax"): from_messages,
    ("opencode_title", "anthropic"): from_chat,
    ("opencode_first_turn", "anthropic"): from_chat,
    ("opencode_write_result", "anthropic"): from_chat,
    ("opencode_messages_first_turn", "generic"): from_messages,
    ("opencode_messages_write_result", "generic"): from_messages,
    ("openclaw_first_turn", "anthropic"): from_chat,
    ("openclaw_write_result", "anthropic-legacy"): from_chat,
    ("codex_first_turn", "chat"): from_responses,
    ("codex_command_result", "chat"): from_responses,
    ("codex_command_result", "anthropic"): from_responses,
}
SESSIONS = [
    ("claude_code_first_turn", "claude_code_write_result", "deepseek"),
    ("claude_code_first_turn", "claude_code_write_result", "openai"),
    ("opencode_first_turn", "opencode_write_result", "anthropic"),
    ("opencode_messages_first_turn", "opencode_messages_write_result", "generic"),
    ("codex_first_turn", "codex_command_result", "chat"),
]


def request_of(name: str) -> bytes:
    return (FOLDER / "requests" / f"{name}.json").read_bytes()


def test_every_recorded_request_is_a_case() -> None:
    """Every recorded request is used by a test."""
    recorded = {path.stem for path in (FOLDER / "requests").glob("*.json")}

    assert recorded == {name for name, _ in CASES}


@pytest.mark.parametrize(("name", "dialect"), CASES, ids=str)
def test_request_of_agent_is_translated(
    request: pytest.FixtureRequest, name: str, dialect: str
) -> None:
    """The upstream's body and what was left out are those of the reviewed file."""
    body, dropped = CASES[name, dialect](request_of(name), dialect)
    got = {"dropped": list(dropped), "body": json.loads(body)}
    path = FOLDER / "upstream" / f"{name}.{dialect}.json"

    if request.config.getoption("--update-golden"):
        if not path.exists() or json.loads(path.read_bytes()) != got:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(got, indent=2, ensure_ascii=False) + "\n")
            pytest.fail(UPDATED)
        return

    assert got == json.loads(path.read_bytes())


@pytest.mark.parametrize(("first", "second", "dialect"), SESSIONS, ids=str)
def test_second_turn_begins_with_the_first(first: str, second: str, dialect: str) -> None:
    """History, tools and settings are the same bytes again: the provider's prompt cache holds."""
    earlier, later = (
        json.loads(CASES[name, dialect](request_of(name), dialect)[0]) for name in (first, second)
    )

    history = messages_without_marks(earlier)
    assert messages_without_marks(later)[: len(history)] == history
    for member in (earlier.keys() | later.keys()) - {"messages", "system"}:
        assert json.dumps(earlier[member]) == json.dumps(later[member])


def messages_without_marks(body: dict[str, Any]) -> list[str]:
    """Return each message as text, cache marks removed: agents move them on to the last turn."""
    kept = [*body.get("system", []), *body["messages"]]
    return [json.dumps(unmarked(message)) for message in kept]


def unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: unmarked(inner) for key, inner in value.items() if key != "cache_control"}
    return [unmarked(inner) for inner in value] if isinstance(value, list) else value
