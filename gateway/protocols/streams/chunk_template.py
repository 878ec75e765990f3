"""
What all plain events of one stream have in common.

Theory. The content events of a stream differ in one JSON string; all before it (id, model, the name
of the delta's member) and all after it (finish reason null, usage null) repeats byte for byte. Two
such events show the two parts; an event that starts and ends with them brings content and nothing
else. Comparing memory is several times faster than searching it for everything that might matter.
"""

from __future__ import annotations


class Framing:
    """
    The bytes around the content of a stream's plain events.

    Attributes:
        size: Bytes of an event that are not content.
    """

    __slots__ = ("_line_ends", "_prefix", "_suffix", "size")

    def __init__(self, prefix: bytes, suffix: bytes) -> None:
        self._prefix = prefix
        self._suffix = suffix
        self._line_ends = prefix.count(b"\n") + suffix.count(b"\n")
        self.size = len(prefix) + len(suffix)

    def events(self, chunk: bytes) -> int:
        """Return of how many events with this framing `chunk` consists; 0: it has anything else."""
        prefix, suffix = self._prefix, self._suffix
        if not (chunk.startswith(prefix) and chunk.endswith(suffix) and len(chunk) > self.size):
            return 0
        if chunk.find(b"\n", len(prefix), len(chunk) - len(suffix)) < 0:
            return 1
        count = chunk.count(suffix)
        if count * self._line_ends == chunk.count(b"\n") and count == chunk.count(prefix):
            return count
        return 0


NO_FRAMING = Framing(b"\0", b"\0")
"""Matches nothing: no JSON holds a zero byte."""


def common_framing(first: bytes, second: bytes) -> Framing | None:
    """
    Return what two events have in common if they differ in the content of one string only.

    Args:
        first: A whole event that brings content and nothing else.
        second: Another.
    """
    before = _common_start(first, second)
    if before == min(len(first), len(second)):
        return None
    after = _common_start(first[::-1], second[::-1])
    start = first.rfind(b'"', 0, before) + 1
    end = first.find(b'"', max(len(first) - after, start))
    suffix = first[end:]
    contents = (first[start:end], second[start : len(second) - len(suffix)])
    # Else a number may be all that differs: the choice's index where two choices say the same.
    in_string = first[: max(start - 1, 0)].rstrip(b" ").endswith(b":")
    if not in_string or end < 0 or any(b'"' in each or b"\n" in each for each in contents):
        return None
    return Framing(first[:start], suffix)


def _common_start(first: bytes, second: bytes) -> int:
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
