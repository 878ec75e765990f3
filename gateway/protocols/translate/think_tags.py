"""
Separates reasoning from text that starts with `<think>...</think>`.

This applies only if the dialect has the capability, and only until a reasoning field is received,
since a model may mention the tag later. LFs around the reasoning belong to neither. Many chat
templates write the opening tag themselves, so that the text has only the closing one.
"""

from __future__ import annotations

from typing import Final, Literal

from gateway.protocols.translate.capabilities import Capabilities

Kind = Literal["thinking", "text"]

_TAGS: Final = (("<think>", "</think>"), ("<mm:think>", "</mm:think>"))
_ALL_TAGS: Final = tuple(tag for pair in _TAGS for tag in pair)
_END_TAGS: Final = tuple(end_tag for _, end_tag in _TAGS)
_LONGEST_TAG: Final = max(map(len, _ALL_TAGS))
_QUOTES: Final = "`'\""

_LONGEST_HELD: Final = 4096
"""Most characters held back; more white space than that is content."""


def think_tags(caps: Capabilities) -> ThinkTags | None:
    """Return a new `ThinkTags` for a stream of this dialect; None: its text has no tags."""
    return ThinkTags(opened=caps.think_opened) if caps.think_tags or caps.think_opened else None


def split_reasoning(content: str, *, opened: bool = False) -> tuple[str, str]:
    """
    Return the reasoning at the start of a complete content, and the rest.

    Args:
        content: The content of a message.
        opened: See `ThinkTags`.
    """
    if not opened or not any(end_tag in content for end_tag in _END_TAGS):
        # In a complete text, everything before a lone closing tag is reasoning.
        opened = _lone_end(content, "") is not None
    tags = ThinkTags(opened=opened)
    pieces = tags.feed(content) + tags.flush()
    reasoning = "".join(text for kind, text in pieces if kind == "thinking")
    return reasoning, "".join(text for kind, text in pieces if kind == "text")


class ThinkTags:
    """
    Separates reasoning from text in streamed content.

    States: `start` holds back the possible start of a tag, `reasoning` holds back a possible end
    tag and LFs at the end, `gap` drops LFs after the end tag, `plain` removes a closing tag without
    an opening one, `text` passes everything. Held text is short, so that the cost is linear.

    Args:
        opened: The content begins inside reasoning: the chat template wrote the opening tag.
    """

    __slots__ = ("_before", "_end_tags", "_fresh", "_held", "_opened", "_state")

    def __init__(self, *, opened: bool = False) -> None:
        self._state: Literal["start", "reasoning", "gap", "plain", "text"] = "start"
        self._opened = opened
        self._held = ""
        self._end_tags: tuple[str, ...] = ()
        self._fresh = True
        self._before = ""  # the last character passed in `plain`

    @property
    def passes(self) -> bool:
        """Whether all further content is text."""
        return self._state == "text"

    @property
    def undecided(self) -> bool:
        """Whether a tag may still begin, so that all content is held back."""
        return self._state == "start" or (self._state == "plain" and self._held != "")

    @property
    def is_plain(self) -> bool:
        """Whether nothing is held back, and content without `<` is text, as it is."""
        return not self._held and self._state in ("plain", "text")

    def passed(self, content: str) -> None:
        """Note the last of the content that was passed without `feed` while `is_plain`."""
        self._before = content[-1:]

    def feed(self, content: str) -> list[tuple[Kind, str]]:
        """Return the new texts and their kinds; no text is empty."""
        match self._state:
            case "plain":
                return self._in_plain(content)
            case "start":
                return self._at_start(content)
            case "reasoning":
                return self._in_reasoning(content)
            case "gap":
                return self._in_gap(content)
            case "text":
                return [("text", content)] if content else []

    def flush(self) -> list[tuple[Kind, str]]:
        """Return held text at the end or before a reasoning field; all that follows is text."""
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
                return self._begin_reasoning(seen[len(tag) :], (end_tag,))
            if tag.startswith(seen) and len(self._held) <= _LONGEST_HELD:
                return []
        held, self._held = self._held, ""
        if self._opened:
            return self._begin_reasoning(held, _END_TAGS)
        self._state = "plain"
        return self._in_plain(held)

    def _begin_reasoning(self, text: str, end_tags: tuple[str, ...]) -> list[tuple[Kind, str]]:
        self._state = "reasoning"
        self._end_tags = end_tags
        self._held = ""
        return self._in_reasoning(text)

    def _in_reasoning(self, content: str) -> list[tuple[Kind, str]]:
        text = self._held + content
        if self._fresh:
            text = text.lstrip("\n")
            self._fresh = not text
        found = [(at, tag) for tag in self._end_tags if (at := text.find(tag)) >= 0]
        if found:
            end, end_tag = min(found)
            self._state = "gap"
            self._held = ""
            reasoning = text[:end].rstrip("\n")
            rest = self._in_gap(text[end + len(end_tag) :])
            return [("thinking", reasoning), *rest] if reasoning else rest
        sure = len(text[: len(text) - _started(self._end_tags, text)].rstrip("\n"))
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

    def _in_plain(self, content: str) -> list[tuple[Kind, str]]:
        text = self._held + content
        if "<" not in text:
            self._before = text[-1:] or self._before
            return [("text", text)] if text else []
        self._held = ""
        lone = _lone_end(text, self._before)
        if lone is not None:
            # The text before it was already sent; only the tag can be removed.
            at, after = lone
            self._state = "gap"
            rest = self._in_gap(text[after:])
            return [("text", text[:at]), *rest] if at else rest
        if any(tag in text for tag in _ALL_TAGS):
            self._state = "text"
            return [("text", text)]
        sure = len(text) - _started(_ALL_TAGS, text)
        self._held = text[sure:]
        self._before = text[:sure][-1:] or self._before
        return [("text", text[:sure])] if sure else []


def _lone_end(text: str, before: str) -> tuple[int, int] | None:
    """
    Return start and end of a closing tag without an opening one, unless it is quoted.

    Args:
        text: A piece of content.
        before: The character before it.
    """
    found = [(at, tag) for tag in _ALL_TAGS if (at := text.find(tag)) >= 0]
    if not found:
        return None
    at, tag = min(found)
    quoted = (text[at - 1] if at else before) in tuple(_QUOTES)
    return None if quoted or tag not in _END_TAGS else (at, at + len(tag))


def _started(tags: tuple[str, ...], text: str) -> int:
    """Return how many characters at the end of `text` may be the start of a tag."""
    at = text.find("<", max(0, len(text) - _LONGEST_TAG + 1))
    while at >= 0:
        if any(tag.startswith(text[at:]) for tag in tags):
            return len(text) - at
        at = text.find("<", at + 1)
    return 0
