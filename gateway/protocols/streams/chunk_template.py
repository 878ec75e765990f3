"""
Recognises plain content events by the bytes that all of them share.

Theory. The content events of a stream differ in one JSON string; the bytes before it (id, model,
the name of the delta's member) and after it (finish reason null, usage null) are the same in each.
Two such events reveal both parts; an event that starts and ends with them has content and nothing
else. Comparing memory is several times faster than searching it for every field.
"""

from __future__ import annotations


class ChunkTemplate:
    """
    The bytes around the content of a stream's plain events.

    Attributes:
        prefix: The bytes before the content.
        suffix: The bytes after it, with the blank line.
        start: Bytes of `prefix`.
        size: Bytes of an event that are not content.
    """

    __slots__ = ("_line_ends", "prefix", "size", "start", "suffix")

    def __init__(self, prefix: bytes, suffix: bytes) -> None:
        self.prefix = prefix
        self.suffix = suffix
        self.start = len(prefix)
        self.size = len(prefix) + len(suffix)
        self._line_ends = prefix.count(b"\n") + suffix.count(b"\n")

    def events(self, chunk: bytes) -> int:
        """Return the number of events in `chunk` if all match this template; otherwise 0."""
        prefix, suffix = self.prefix, self.suffix
        if not (chunk.startswith(prefix) and chunk.endswith(suffix) and len(chunk) > self.size):
            return 0
        if chunk.find(b"\n", len(prefix), len(chunk) - len(suffix)) < 0:
            return 1
        count = chunk.count(suffix)
        if count * self._line_ends == chunk.count(b"\n") and count == chunk.count(prefix):
            return count
        return 0


NO_TEMPLATE = ChunkTemplate(b"\0", b"\0")
"""Matches nothing, since JSON contains no zero byte."""


def common_template(first: bytes, second: bytes) -> ChunkTemplate | None:
    """
    Return the template of two events that differ only in the content of one string.

    Args:
        first: A whole event with content and nothing else.
        second: Another.
    """
    before = _common_start(first, second)
    if before == min(len(first), len(second)):
        return None
    after = _common_start(first[::-1], second[::-1])
    start = first.rfind(b'"', 0, before) + 1
    end = first.find(b'"', max(len(first) - after, start))
    # Compiled code cannot slice bytes to before the start.
    if end < 0 or len(second) - len(first) < start - end:
        return None
    suffix = first[end:]
    contents = (first[start:end], second[start : len(second) - len(suffix)])
    # Outside a string, the difference may be a number: the index of choices with equal content.
    in_string = first[: max(start - 1, 0)].rstrip(b" ").endswith(b":")
    if not in_string or any(b'"' in each or b"\n" in each for each in contents):
        return None
    return ChunkTemplate(first[:start], suffix)


def _common_start(first: bytes, second: bytes) -> int:
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def plain_openai(chunk: bytes) -> int:
    """Return the number of content events in whole events; -1 if they must be decoded."""
    if b'"usage"' in chunk and chunk.count(b'"usage"') != (
        chunk.count(b'"usage":null') or chunk.count(b'"usage": null')
    ):
        return -1
    if (
        b'reason":"' in chunk
        or b'reason": "' in chunk
        or b'"error"' in chunk
        or b"[DONE]" in chunk
        or b"event:" in chunk
    ):
        return -1
    if chunk[0] == 0x3A and b"\ndata:" not in chunk:  # only comments
        return 0
    return chunk.count(b"\n\n") or chunk.count(b"\r\n\r\n")


def none_is_plain(_: bytes) -> int:
    """Return -1, so that every event is decoded."""
    return -1


def plain_anthropic(chunk: bytes) -> int:
    """Return the result of `plain_openai` for events of the Anthropic wire."""
    if b'"message_' in chunk or b'"error"' in chunk or b"event: error" in chunk:
        return -1
    count = chunk.count(b'"content_block_delta"')
    # If a ping or a block's end is among them, the size of the content needs decoding.
    return count if count == (chunk.count(b"\n\n") or chunk.count(b"\r\n\r\n")) else -1
