"""
Reads usage and the amount of content from a response that is too large to keep.

The scanner walks the JSON structure of an OpenAI or Anthropic response, or of one large event of a
stream. It enters only objects on the path to the fields it reads, keeps their values, counts the
bytes of content members and skips everything else. Fields are found by their path: text inside a
string, or an object inside a tool's input, is never read as usage.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from gateway.core.model import Wire
from gateway.protocols.codec.content_size import content_bytes
from gateway.protocols.codec.json_skip import ValueSkipper

KEPT_BYTES: Final = 65_536
"""Most bytes kept of a value; a longer one is truncated and cannot be read."""

_BETWEEN = re.compile(rb"[ \t\r\n,:]*+")
_LONGEST_KEY: Final = 256
_TEXT: Final = msgspec.json.Decoder(str)
_NOTHING: Final = (b"", b"null", b"{}")
_OF_CHOICES: Final = ("choice_usage", "finish_reason")


class _Rule(msgspec.Struct, frozen=True):
    """How a value is scanned."""

    keep: str | None = None
    """The value is kept under this name."""
    members: dict[bytes, _Rule] | None = None
    """The value, if it is an object, is entered."""
    elements: _Rule | None = None
    """The value, if it is an array, is entered."""
    counts_others: bool = False
    """Members of the object that `members` does not name are counted as content."""


def _kept(*names: str) -> dict[bytes, _Rule]:
    return {name.encode(): _Rule(keep=name) for name in names}


_MESSAGE = _Rule(members={}, counts_others=True)
_CHOICE = _Rule(
    members={
        b"message": _MESSAGE,
        b"delta": _MESSAGE,
        b"usage": _Rule(keep="choice_usage"),
        b"finish_reason": _Rule(keep="finish_reason"),
    }
)
_OPENAI = _Rule(
    members={**_kept("usage", "error", "service_tier"), b"choices": _Rule(elements=_CHOICE)}
)
_ANTHROPIC = _Rule(
    members={
        **_kept("usage", "type", "stop_reason"),
        b"content": _Rule(elements=_MESSAGE),
        b"delta": _MESSAGE,
        b"content_block": _MESSAGE,
    }
)


class _Frame:
    """An object or array that was entered."""

    __slots__ = ("is_array", "rule", "sizes")

    def __init__(self, rule: _Rule, *, is_array: bool) -> None:
        self.rule = rule
        self.is_array = is_array
        self.sizes: dict[str, int] = {}


class ResponseScanner:
    """
    Scans one JSON document in pieces; any split gives the same result.

    Args:
        wire: The upstream's dialect.

    Attributes:
        complete: The document has ended.
    """

    __slots__ = (
        "_content_bytes",
        "_counted",
        "_frames",
        "_in_key",
        "_in_value",
        "_keeping",
        "_kept",
        "_key",
        "_root",
        "_skipper",
        "_wire",
        "complete",
    )

    def __init__(self, wire: Wire) -> None:
        self.complete = False
        self._wire = wire
        self._root = _OPENAI if wire is Wire.OPENAI else _ANTHROPIC
        self._frames: list[_Frame] = []
        self._skipper = ValueSkipper()
        self._key: bytes | None = None
        self._in_key = False
        self._in_value = False
        self._counted: str | None = None  # the member whose value is being counted
        self._keeping: str | None = None
        self._kept: dict[str, bytes] = {}
        self._content_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Scan the next bytes. Invalid JSON is read as far as possible."""
        at = 0
        while 0 <= at < len(chunk):
            if self._in_value:
                at = self._continue_value(chunk, at)
            elif self._in_key:
                at = self._continue_key(chunk, at)
            else:
                at = self._next(chunk, at)

    def kept(self, name: str) -> bytes:
        """Return the bytes of a kept value; empty if it is missing."""
        return self._kept.get(name, b"")

    @property
    def content_bytes(self) -> int:
        """Weighted bytes of content so far."""
        return self._content_bytes + sum(
            content_bytes(self._wire, frame.sizes) for frame in self._frames
        )

    def _next(self, chunk: bytes, at: int) -> int:
        """Scan one token outside keys and skipped values."""
        match = _BETWEEN.match(chunk, at)
        assert match is not None
        at = match.end()
        if at == len(chunk):
            return at
        first = chunk[at]
        if first in b"}]":
            self._leave()
            return at + 1
        if not self._frames:
            return self._begin_document(first, at, len(chunk))
        frame = self._frames[-1]
        if not frame.is_array and self._key is None:
            if first == 0x22:
                self._in_key = True
                self._key = b""
                self._skipper.start(first)
            return at + 1
        return self._begin_value(frame, first, at)

    def _begin_document(self, first: int, at: int, end: int) -> int:
        if self.complete or first != 0x7B:
            self.complete = False
            self._root = _Rule()  # not a response: nothing in it is read
            return end
        self._frames.append(_Frame(self._root, is_array=False))
        return at + 1

    def _leave(self) -> None:
        if self._frames:
            frame = self._frames.pop()
            self._content_bytes += content_bytes(self._wire, frame.sizes)
            self._key = None
            self.complete = not self._frames

    def _begin_value(self, frame: _Frame, first: int, at: int) -> int:
        key, self._key = self._key, None
        rule = _rule_of(frame, key)
        is_nested = first in b"{["
        if rule is not None and _is_entered(rule, first):
            self._frames.append(_Frame(rule, is_array=rule.members is None))
            return at + 1
        self._begin_keeping(rule.keep if rule is not None else None)
        is_content = rule is None and frame.rule.counts_others and (is_nested or first == 0x22)
        self._counted = key.decode("latin-1") if is_content and key is not None else None
        self._in_value = True
        self._skipper.start(first)
        if is_nested or first == 0x22:
            self._take(bytes((first,)))
            return at + 1
        return at

    def _begin_keeping(self, name: str | None) -> None:
        """Keep the value that begins; of several choices, the first one with a value counts."""
        if name in _OF_CHOICES and self._kept.get(name, b"") not in _NOTHING:
            name = None
        self._keeping = name
        if name is not None:
            self._kept[name] = b""

    def _take(self, piece: bytes) -> None:
        if self._keeping is not None:
            kept = self._kept[self._keeping]
            self._kept[self._keeping] = kept + piece[: KEPT_BYTES - len(kept)]
        elif self._counted is not None:
            sizes = self._frames[-1].sizes
            sizes[self._counted] = sizes.get(self._counted, 0) + len(piece)

    def _continue_value(self, chunk: bytes, at: int) -> int:
        end = self._skipper.end_in(chunk, at)
        if self._keeping is not None or self._counted is not None:
            self._take(chunk[at:end] if end >= 0 else chunk[at:])
        if end >= 0:
            self._in_value = False
        return end

    def _continue_key(self, chunk: bytes, at: int) -> int:
        assert self._key is not None
        end = self._skipper.end_in(chunk, at)
        piece = chunk[at:end] if end >= 0 else chunk[at:]
        self._key += piece[: _LONGEST_KEY - len(self._key)]
        if end >= 0:
            self._in_key = False
            self._key = _name(self._key)
        return end


def _rule_of(frame: _Frame, key: bytes | None) -> _Rule | None:
    if frame.is_array:
        return frame.rule.elements
    members = frame.rule.members
    return members.get(key) if members is not None and key is not None else None


def _is_entered(rule: _Rule, first: int) -> bool:
    if first == 0x7B:
        return rule.members is not None
    return first == 0x5B and rule.elements is not None


def _name(key: bytes) -> bytes:
    """Return a key decoded, without its closing quote."""
    if b"\\" in key:
        try:
            return _TEXT.decode(b'"' + key).encode()
        except (msgspec.DecodeError, UnicodeError):
            return key
    return key[:-1]
