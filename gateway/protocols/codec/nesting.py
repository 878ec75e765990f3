"""
Bounds how deeply JSON may be nested.

The decoders' own limits depend on the version of Python, from about 1,000 levels on 3.11 to over
100,000 on 3.14, and code that walks a decoded value has less. `MOST_LEVELS` is below all of them,
so that a document that passes is read to its end everywhere, and any other is refused everywhere.

The check is nearly free: most documents are too small, or have too few opening brackets, to be
deep. msgspec splits the others into their values at over 1 GB/s, and those are small in turn. In
what is left, innermost pairs of brackets are removed first.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError

MOST_LEVELS: Final = 512
"""Common JSON parsers of upstreams accept less, such as the 128 levels of serde_json."""
SHALLOW_BYTES: Final = MOST_LEVELS - 1
"""No text up to this size is nested too deeply, even within another array or object."""
TOO_DEEP: Final = f"JSON is nested too deeply: at most {MOST_LEVELS} levels are allowed"

_COUNTED_BYTES: Final = 8 * 1024
_SAMPLE_BYTES: Final = 1024
_SAMPLES: Final = 4
_SLICE: Final = 16 * 1024
_SPLITS: Final = 12
"""Times that a text and its parts are split: more than messages with content and tools need."""
_SPLIT_BYTES: Final = 1024 * 1024
_MOST_COMMAS: Final = 160_000
"""A text that is larger or has more values is not split: its parts would take over 11 MB."""

_LIST: Final = msgspec.json.Decoder(list[Raw])
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])

# An opening bracket is 1 and a closing one -1, as signed bytes.
_DELTAS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_MARKS: Final = bytes(code for code in range(256) if code not in b'[{]}"')
_COLLAPSED_LEVELS: Final = 32


def refuse_deep(text: bytes, outer: int = 0) -> None:
    """
    Check the depth of a client's JSON, see `is_deep`.

    Raises:
        GatewayError: BAD_REQUEST.
    """
    if len(text) > SHALLOW_BYTES and is_deep(text, outer):
        raise GatewayError(ErrorKind.BAD_REQUEST, TOO_DEEP)


def is_deep(text: bytes | str, outer: int = 0) -> bool:
    """
    Return whether JSON text has more than `MOST_LEVELS` levels of objects and arrays.

    Of text that is not JSON, only what a parser reads before it fails is sure to be counted.

    Args:
        text: A document, or a value within one.
        outer: The number of objects and arrays around it.
    """
    most = MOST_LEVELS - outer
    if len(text) <= most:
        return False
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")
    return _exceeds(text, most, _SPLITS)


def _exceeds(text: bytes, most: int, splits: int) -> bool:
    if text[:1] == b'"' or _has_few_brackets(text, most):
        return False
    values = _values(text, most) if splits else None
    if values is None:
        return _peak_exceeds(text, most)
    shallow = 2 * (most - 1)  # the values are complete: each level has two brackets
    long = [value for value in values if len(memoryview(value)) > shallow]
    return any(_exceeds(bytes(value), most - 1, splits - 1) for value in long)


def _has_few_brackets(text: bytes, most: int) -> bool:
    """Return True only if there are at most `most` opening brackets, in strings or not."""
    size = len(text)
    if size <= _COUNTED_BYTES:
        return text.count(b"{") + text.count(b"[") <= most
    sampled = 0
    for start in range(0, size, size // _SAMPLES):
        end = start + _SAMPLE_BYTES
        sampled += text.count(b"{", start, end) + text.count(b"[", start, end)
    if sampled * size > most * _SAMPLES * _SAMPLE_BYTES:
        return False  # splitting is faster than finding them
    # `find` skips a long text twenty times as fast as `count`.
    for bracket in (b"{", b"["):
        at = text.find(bracket)
        while at >= 0:
            most -= 1
            if most < 0:
                return False
            at = text.find(bracket, at + 1)
    return True


def _values(text: bytes, most: int) -> Iterable[Raw] | None:
    """Return the values directly in an array or object; None if they are not known."""
    size = len(text)
    if size > _SPLIT_BYTES or (size > 2 * _MOST_COMMAS and text.count(b",") > _MOST_COMMAS):
        return None
    try:
        if text[:1] == b"[":
            return _LIST.decode(text)
        values = _OBJECT.decode(text).values()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # Of two values with one name, msgspec returns only the last.
    rest = size - sum(len(memoryview(value)) for value in values)
    return values if rest <= 2 * most else None


def _peak_exceeds(text: bytes, most: int) -> bool:
    """Count the depth outside strings; bracket by bracket where it may be too deep."""
    depth = at = inside = 0
    while at < len(text):
        end = at + _SLICE
        # No slice ends within an escape.
        piece = text[at:end]
        end -= (len(piece) - len(piece.rstrip(b"\\"))) % 2
        piece = text[at:end]
        at = end
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = piece.translate(None, _NO_MARKS).replace(b'""', b"").split(b'"')
        brackets = b"".join(parts[inside::2])
        inside = (inside + len(parts) - 1) % 2
        rest, levels = _collapsed(brackets, most - depth)
        if len(rest) + levels + depth > most:
            deltas = array("b", brackets.translate(_DELTAS))
            if max(accumulate(deltas, initial=depth)) > most:
                return True
        depth += 2 * (rest.count(b"{") + rest.count(b"[")) - len(rest)
    return False


def _collapsed(brackets: bytes, most: int) -> tuple[bytes, int]:
    """Remove innermost pairs until `most` is out of reach; return the rest, and levels removed."""
    levels = 0
    while len(brackets) + levels > most and levels < _COLLAPSED_LEVELS:
        rest = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(rest) == len(brackets):
            break
        brackets, levels = rest, levels + 2
    return brackets, levels
