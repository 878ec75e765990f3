"""
Finds the end of a JSON value that arrives in pieces, without storing it.

The cost is linear in the bytes: strings are searched for their closing quote, objects and arrays
for brackets outside strings. Brackets are counted one by one at first, then in blocks of doubling
size, so that a large value takes few C-level passes and little is read beyond a small one.
"""

from __future__ import annotations

import re
from typing import Final

_FLAT = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
"""Everything up to a bracket, or up to an unterminated string."""
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SCALAR = re.compile(rb"[^,\]} \t\r\n]*+")

_OPENING: Final = b"{["
_FLAT_BYTES: Final = 4096
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS: Final = bytes(code for code in range(256) if code not in b"{}[]")
_SINGLE_BRACKETS: Final = 32
_FIRST_BLOCK: Final = 512
_SMALLEST_BLOCK: Final = 64
_LARGEST_BLOCK: Final = 65_536
_MOST_ROUNDS: Final = 24
"""Levels of nesting removed from a block's brackets before they are counted one by one."""


class ValueSkipper:
    """Finds the ends of values, one value at a time."""

    __slots__ = ("_block", "_depth", "_escaped", "_in_string", "_is_near", "_is_scalar")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False  # the last byte seen was an unpaired backslash inside a string
        self._is_scalar = False
        self._block = 0  # size of the next block; 0 while brackets are counted one by one
        self._is_near = False  # the end is in the last block examined

    def start(self, first: int) -> None:
        """Begin a value by its first byte, which is consumed unless the value is a scalar."""
        self._in_string = first == 0x22
        self._depth = 1 if first in _OPENING else 0
        self._is_scalar = not (self._in_string or self._depth)
        self._escaped = self._is_near = False
        self._block = 0

    def end_in(self, chunk: bytes, at: int) -> int:
        """Return the offset after the value's last byte, or -1 if it does not end in `chunk`."""
        if self._is_scalar:
            match = _SCALAR.match(chunk, at)
            assert match is not None
            return match.end() if match.end() < len(chunk) else -1
        if self._in_string:
            at = self._string_end(chunk, at)
            if at < 0 or not self._depth:
                return at
        return self._container_end(chunk, at)

    def _string_end(self, chunk: bytes, at: int) -> int:
        if at >= len(chunk):
            return -1
        if self._escaped:
            self._escaped = False
            at += 1
        quote = chunk.find(b'"', at)
        before = quote - 1 if quote >= 0 else len(chunk) - 1
        if before >= at and chunk[before] == 0x5C:  # it may itself be escaped
            match = _IN_STRING.match(chunk, at)
            assert match is not None
            quote = match.end()
            if quote == len(chunk) or chunk[quote] != 0x22:
                self._escaped = quote < len(chunk)
                return -1
        if quote < 0:
            return -1
        self._in_string = False
        return quote + 1

    def _container_end(self, chunk: bytes, at: int) -> int:
        while at < len(chunk):
            if not self._block:
                end, is_end = self._step(chunk, at)
            else:
                end, is_end = self._skip_block(chunk, at)
            if is_end or end < 0:
                return end
            at = end
        return -1

    def _step(self, chunk: bytes, at: int) -> tuple[int, bool]:
        """Count some brackets one by one; return the offset, and whether the value ends there."""
        for _ in range(_SINGLE_BRACKETS):
            # A string that is longer than this is skipped by its quotes, which is faster.
            limit = min(at + _FLAT_BYTES, len(chunk))
            match = _FLAT.match(chunk, at, limit)
            assert match is not None
            at = match.end()
            if at == len(chunk):
                return -1, False
            if at == limit:
                continue
            if chunk[at] == 0x22:
                self._in_string = True
                at = self._string_end(chunk, at + 1)
                return at, False
            self._depth += 1 if chunk[at] in _OPENING else -1
            at += 1
            if not self._depth:
                return at, True
        self._block = max(self._block, _SMALLEST_BLOCK if self._is_near else _FIRST_BLOCK)
        return at, False

    def _skip_block(self, chunk: bytes, at: int) -> tuple[int, bool]:
        """Skip a block if the value does not end in it; otherwise halve the block size."""
        block = chunk[at : at + self._block]
        if self._fits(block):
            if not self._is_near:
                self._block = min(self._block * 2, _LARGEST_BLOCK)
            at += len(block)
            return (self._string_end(chunk, at) if self._in_string else at), False
        self._is_near = True
        self._block = len(block) // 2
        return self._step(chunk, at) if self._block < _SMALLEST_BLOCK else (at, False)

    def _fits(self, block: bytes) -> bool:
        """Count a block that begins outside strings; return False if the value may end in it."""
        plain = block.replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = plain.split(b'"')
        brackets = b"".join(pieces[::2]).translate(_SQUARE, _NOT_BRACKETS)
        for _ in range(_MOST_ROUNDS):
            if b"[]" not in brackets:
                break
            brackets = brackets.replace(b"[]", b"")
        lowest, depth = _lowest(brackets, self._depth)
        if lowest <= 0:
            return False
        self._depth = depth
        self._in_string = len(pieces) % 2 == 0
        self._escaped = self._in_string and plain.endswith(b"\\")
        return True


def _lowest(brackets: bytes, depth: int) -> tuple[int, int]:
    """Return the lowest and the final depth after the brackets."""
    closing = brackets.count(b"]")
    if b"[]" not in brackets:  # all closing brackets come first
        lowest = depth - closing
        return lowest, lowest + len(brackets) - closing
    lowest = depth
    for each in brackets:
        depth += 1 if each == 0x5B else -1
        lowest = min(lowest, depth)
    return lowest, depth
