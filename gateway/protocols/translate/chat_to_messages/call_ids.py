"""Makes the tool-call ids of an OpenAI history unique, and valid for Anthropic."""

from __future__ import annotations

from collections import deque

from gateway.protocols.ids import UnusedIds, to_anthropic_id


class CallIds:
    """
    Gives each call of a history a unique id, and its result the same one.

    Some servers number the calls of each response from 0, so that ids are repeated in a history,
    which Anthropic rejects. The first call keeps its id, later ones get `_2`, `_3`, ... appended.
    """

    __slots__ = ("_last", "_unused", "_waiting")

    def __init__(self) -> None:
        self._unused = UnusedIds(())
        self._waiting: dict[str, deque[str]] = {}
        self._last: dict[str, str] = {}

    def of_call(self, call_id: str) -> str:
        """Return a new id for a call."""
        new = self._unused.take(to_anthropic_id(call_id))
        self._waiting.setdefault(call_id, deque()).append(new)
        return new

    def of_result(self, call_id: str) -> str:
        """Return the id of the earliest call without a result, else that of the last result."""
        waiting = self._waiting.get(call_id)
        if waiting:
            self._last[call_id] = waiting.popleft()
        return self._last.get(call_id) or to_anthropic_id(call_id)
