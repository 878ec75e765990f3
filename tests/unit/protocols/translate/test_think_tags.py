"""Reasoning in tags: what is held back of streamed content, and how long."""

from __future__ import annotations

import pytest

from gateway.protocols.translate.think_tags import ThinkTags

LONGEST = 4096


def test_text_that_cannot_begin_a_tag_is_not_held() -> None:
    """A comparison is no tag, and a closing tag without an opening one is removed later."""
    tags = ThinkTags()

    assert tags.feed("Hi: a < b") == [("text", "Hi: a < b")]
    assert tags.feed(" and c <") == [("text", " and c ")]
    assert tags.feed(" d") == [("text", "< d")]
    assert tags.feed("so</think>\nText") == [("text", "so"), ("text", "Text")]


@pytest.mark.parametrize("more", [0, 1])
def test_line_ends_of_reasoning_are_held_up_to_a_bound(more: int) -> None:
    """Beyond it they are reasoning."""
    tags = ThinkTags(opened=True)
    line_ends = "\n" * (LONGEST + more)

    assert tags.feed("x" + line_ends) == [("thinking", "x" + (line_ends if more else ""))]
