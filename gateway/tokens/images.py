"""
Reads an image's dimensions from its base64 text, and estimates its tokens.

Only the bytes that contain the dimensions are decoded, so the cost is independent of the size.
Sources: PNG (RFC 2083, IHDR), GIF89a (logical screen), JPEG (ITU-T T.81, frame header), WebP
container specification (VP8, VP8L, VP8X).
"""

from __future__ import annotations

import binascii
import struct
from typing import Final

UNKNOWN_TOKENS: Final = 1500
"""Tokens of an image of unknown size, or given by URL."""
MAX_TOKENS: Final = 1600
"""Upper limit, since providers scale larger images down."""
PIXELS_PER_TOKEN: Final = 750

_HEAD_BYTES: Final = 30
_MAX_SEGMENTS: Final = 256
_FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start of frame, any coding; C4, C8 and CC are tables."""


def image_tokens(base64_text: str) -> int:
    """Return width x height / 750 rounded up, at most 1600; 1500 if the size cannot be read."""
    size = image_size(base64_text)
    if size is None:
        return UNKNOWN_TOKENS
    return min(-(-size[0] * size[1] // PIXELS_PER_TOKEN), MAX_TOKENS)


def url_tokens(url: str) -> int:
    """Return the tokens of an image given by URL; the size is known for base64 data URLs only."""
    comma = url.find(",", 0, 128)
    if not (url.startswith("data:") and url.endswith(";base64", 0, max(comma, 0))):
        return UNKNOWN_TOKENS
    return image_tokens(url[comma + 1 :])


def image_size(base64_text: str) -> tuple[int, int] | None:
    """Return width and height in pixels of a PNG, JPEG, GIF or WebP; None for anything else."""
    try:
        head = _window(base64_text, 0, _HEAD_BYTES)
        size = _jpeg_size(base64_text) if head.startswith(b"\xff\xd8") else _size_in_head(head)
    except (binascii.Error, ValueError, struct.error):
        return None  # Truncated, or not base64.
    return size if size is not None and min(size) > 0 else None


def _size_in_head(head: bytes) -> tuple[int, int] | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", head, 16)
    elif head.startswith((b"GIF87a", b"GIF89a")):
        width, height = struct.unpack_from("<HH", head, 6)
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp_size(head)
    else:
        return None
    return width, height


def _webp_size(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", head, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(
                head[27:30], "little"
            ) + 1
        case _:
            return None


def _jpeg_size(base64_text: str) -> tuple[int, int] | None:
    """Skip segments up to the frame header; thumbnails are inside a segment."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        segment = _window(base64_text, at, 9)
        mark, kind, length = struct.unpack_from(">BBH", segment)
        if mark != 0xFF:
            return None
        if kind == 0xFF:
            at += 1  # A fill byte.
        elif kind in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", segment, 5)
            return width, height
        else:
            at += 2 + length
    return None


def _window(base64_text: str, start: int, length: int) -> bytes:
    """Decode `length` bytes starting at byte `start`, or fewer at the end."""
    first = start // 3
    last = -(-(start + length) // 3)
    # Python 3.14 would read on after the padding.
    quads = base64_text[first * 4 : last * 4].partition("=")[0]
    raw = binascii.a2b_base64(quads + "=" * (-len(quads) % 4))
    return raw[start - first * 3 :][:length]
