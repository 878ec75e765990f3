"""
Reasoning that a model writes into its text: `<think>...</think>` at the very start.

Only where the dialect says so, and only until a reasoning field has come: a model may speak about
the tag later. LFs around the reasoning belong to neither side.
"""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["thinking", "text"]

_TAGS: Final = (("<think>", "</think>"), ("<mm:think>", "</mm:think>"))

_LONGEST_HELD: Final = 4096
"""Characters held back at most; more white space than that is content."""


def split_reasoning(content: str) -> tuple[str, str]:
    """Return the reasoning at the start of a whole content, and the rest; no tag: no reasoning."""
    tags = ThinkTags()
    pieces = tags.feed(content) + tags.flush()
    reasoning = "".join(text for kind, text in pieces if kind == "thinking")
    return reasoning, "".join(text for kind, text in pieces if kind == "text")


class ThinkTags:
    """
    Separates reasoning from text in content that comes in pieces.

    States: `start` holds what may still become a tag, `reasoning` holds a possible end tag and LFs
    at the end, `gap` drops LFs after the end tag, `text` passes everything. The tags are searched
    only where they may stand, and what is held back is short, so the cost is linear.
    """

    __slots__ = ("_end_tag", "_fresh", "_held", "_state")

    def __init__(self) -> None:
        self._state: Literal["start", "reasoning", "gap", "text"] = "start"
        self._held = ""
        self._end_tag = ""
        self._fresh = True

    @property
    def passes(self) -> bool:
        """Whether all further content is text."""
        return self._state == "text"

    @property
    def undecided(self) -> bool:
        """Whether a tag may still begin: what was fed is held back."""
        return self._state == "start"

    def feed(self, content: str) -> list[tuple[Kind, str]]:
        """Return what `content` adds, kind by kind; never an empty text."""
        match self._state:
            case "start":
                return self._at_start(content)
            case "reasoning":
                return self._in_reasoning(content)
            case "gap":
                return self._in_gap(content)
            case "text":
                return [("text", content)] if content else []

    def flush(self) -> list[tuple[Kind, str]]:
        """Return what was held: nothing follows, or a reasoning field came. Then all is text."""
        held, state = self._held, self._state
        self._held = ""
        self._state = "text"
        if state == "reasoning":
            held = held.rstrip("\n")
            return [("thinking", held)] if held else []
        return [("text", held)] if held else []

    def _at_start(self, content: str) -> list[tuple[Kind, str]]:
        self._held += content
        seen = self._held.lstrip()
        for tag, end_tag in _TAGS:
            if seen.startswith(tag):
                self._state = "reasoning"
                self._end_tag = end_tag
                self._held = ""
                return self._in_reasoning(seen[len(tag) :])
            if tag.startswith(seen) and len(self._held) <= _LONGEST_HELD:
                return []
        return self.flush()

    def _in_reasoning(self, content: str) -> list[tuple[Kind, str]]:
        text = self._held + content
        if self._fresh:
            text = text.lstrip("\n")
            self._fresh = not text
        end = text.find(self._end_tag)
        if end >= 0:
            self._state = "gap"
            self._held = ""
            reasoning = text[:end].rstrip("\n")
            rest = self._in_gap(text[end + len(self._end_tag) :])
            return [("thinking", reasoning), *rest] if reasoning else rest
        sure = len(text[: len(text) - _started(self._end_tag, text)].rstrip("\n"))
        if len(text) - sure > _LONGEST_HELD:
            sure = len(text)
        self._held = text[sure:]
        return [("thinking", text[:sure])] if sure else []

    def _in_gap(self, content: str) -> list[tuple[Kind, str]]:
        text = content.lstrip("\n")
        if not text:
            return []
        self._state = "text"
        return [("text", text)]


def _started(tag: str, text: str) -> int:
    """Return how many characters at the end of `text` are the start of `tag`."""
    for length in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0
