"""Determines the media type of an image by its first bytes."""

from __future__ import annotations

import base64
import binascii
from typing import Final

_HEAD: Final = 16
"""Base64 characters that are decoded: 12 bytes."""


def sniffed_image_type(encoded: str) -> str | None:
    """Return the media type of an image in base64; None if its first bytes are not known."""
    try:
        head = base64.b64decode(encoded[:_HEAD].partition("=")[0].ljust(_HEAD, "A"))
    except (binascii.Error, ValueError):
        return None
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return None
