"""The parts of chat responses that providers write in several ways."""

from __future__ import annotations

import pytest

from gateway.protocols.openai_chat.response import content_texts, thought_signature


def test_content_list_separates_text_and_thinking() -> None:
    """Mistral's thinking is a string or a list of parts; unknown parts are ignored."""
    content: list[object] = [
        {"type": "thinking", "thinking": "One."},
        {"type": "thinking", "thinking": [{"type": "text", "text": "Two."}]},
        {"type": "text", "text": "Three."},
        "four",
    ]

    assert content_texts(content) == ("Three.", "One.Two.")


@pytest.mark.parametrize(
    ("signature", "read"), [("abc", "abc"), ("", None), (5, None), (None, None)]
)
def test_thought_signature_is_a_string_with_content(signature: object, read: str | None) -> None:
    """Anything else counts as no signature."""
    assert thought_signature({"google": {"thought_signature": signature}}) == read
