"""Assigns the pieces of tool calls in an OpenAI-wire stream to their calls."""

from __future__ import annotations

import enum
import re
from typing import Final

from gateway.protocols.codec.json_decode import SurrogateJoiner, is_object, join_surrogates
from gateway.protocols.openai_chat.response import CallFragment, thought_signature

_NULL: Final = "null"
_STRUCTURE: Final = re.compile(r'["\\{}\[\]]')


class CallState(enum.Enum):
    """The state of a call in the client's stream."""

    WAITING = enum.auto()
    LIVE = enum.auto()
    CLOSED = enum.auto()


class ToolRecord:
    """
    One call and its arguments so far.

    Completeness is checked only if another block waits: the new part is scanned for the end of the
    object, and a closed object is parsed once.
    """

    __slots__ = (
        "_arguments",
        "_checked",
        "_complete",
        "_depth",
        "_held",
        "_in_string",
        "_joiner",
        "_skip",
        "_verdict_due",
        "id",
        "is_known",
        "name",
        "ordinal",
        "signature",
        "state",
    )

    def __init__(self, ordinal: int) -> None:
        self.ordinal = ordinal
        """Position among the response's calls, from 0."""
        self.id = ""
        self.name = ""
        self.signature: str | None = None
        """Gemini's thought signature."""
        self.state = CallState.WAITING
        self.is_known = False
        """Whether it has a position in the response."""
        self._arguments: list[str] = []
        self._held = ""
        self._joiner = SurrogateJoiner()
        self._checked = 0
        self._depth = 0
        self._in_string = False
        self._skip = False
        self._verdict_due = True
        self._complete = False

    def take(self, fragment: CallFragment) -> str:
        """Store the new members of a fragment; return its arguments with surrogates joined."""
        if fragment.id and not self.id:
            self.id = fragment.id
        if fragment.extra_content is not None and self.signature is None:
            self.signature = thought_signature(fragment.extra_content)
        function = fragment.function
        if function is None:
            return ""
        if function.name and not self.name:
            self.name = join_surrogates(function.name)
        text = self._joiner.feed(function.arguments) if function.arguments else ""
        if text and not self._arguments:
            text = self._without_null(text)
        if text:
            self._arguments.append(text)
        return text

    def flush(self) -> str:
        """Return held text: U+FFFD for half a surrogate pair, or the beginning of `null`."""
        rest = "" if self._held.strip() == _NULL else self._held
        rest += self._joiner.flush()
        self._held = ""
        if rest:
            self._arguments.append(rest)
        return rest

    def _without_null(self, text: str) -> str:
        """Hold back arguments that may be `null`, which some providers write for none."""
        text = self._held + text
        self._held = text if _NULL.startswith(text.strip()) else ""
        return "" if self._held else text

    @property
    def arguments(self) -> str:
        """All arguments so far."""
        return "".join(self._arguments)

    def is_complete(self) -> bool:
        """Return whether the arguments so far are a JSON object."""
        while self._checked < len(self._arguments):
            self._scan(self._arguments[self._checked])
            self._checked += 1
        return self._complete

    def _scan(self, text: str) -> None:
        """Track strings and brackets through the next piece."""
        if not self._verdict_due:
            if text.strip():
                self._complete = False
            return
        position = 0
        if self._skip:
            self._skip = False
            position = 1
        for found in _STRUCTURE.finditer(text, position):
            if found.start() < position:
                continue
            mark = found[0]
            if mark == "\\":
                position = found.start() + 2
                self._skip = position > len(text)
            elif mark == '"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._depth += 1 if mark in "{[" else -1
                if self._depth <= 0:
                    self._verdict_due = False
                    self._complete = is_object(self.arguments)
                    return


class CallTable:
    """Finds the call of a fragment, or adds a new one."""

    __slots__ = ("_by_id", "_by_index", "_count", "_last")

    def __init__(self) -> None:
        self._by_index: dict[int, ToolRecord] = {}
        self._by_id: dict[str, ToolRecord] = {}
        self._last: ToolRecord | None = None
        self._count = 0

    def find(self, fragment: CallFragment) -> ToolRecord | None:
        """
        Return the fragment's call; None if it belongs to no call.

        Calls are found by index; some servers send index 0 for every call, so a fragment with
        another id and a name is a new call. Without an index (Gemini), it is the call with the same
        id unless that is complete and there is a name again; else a new call if there is a name,
        else the last one.
        """
        record = (
            self._indexed(fragment) if fragment.index is not None else self._unindexed(fragment)
        )
        if record is not None:
            self._last = record
            if fragment.id:
                self._by_id[fragment.id] = record
        return record

    def _indexed(self, fragment: CallFragment) -> ToolRecord:
        assert fragment.index is not None
        record = self._by_index.get(fragment.index)
        if record is None or _is_another(record, fragment):
            record = self._new()
            self._by_index[fragment.index] = record
        return record

    def _unindexed(self, fragment: CallFragment) -> ToolRecord | None:
        named = fragment.function is not None and bool(fragment.function.name)
        known = self._by_id.get(fragment.id) if fragment.id else None
        if known is not None and not (named and known.is_complete()):
            return known
        if fragment.id or named:
            return self._new()
        return self._last

    def _new(self) -> ToolRecord:
        record = ToolRecord(self._count)
        self._count += 1
        return record


def _is_another(record: ToolRecord, fragment: CallFragment) -> bool:
    named = fragment.function is not None and bool(fragment.function.name)
    return bool(fragment.id and record.id and fragment.id != record.id and named)
