"""The media type of an image by its first bytes."""

from __future__ import annotations

from base64 import b64encode

import pytest

from gateway.protocols.translate.image_type import sniffed_image_type


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n1234", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBP", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"XXXX\x00\x00\x00\x00WEBP", None),
        (b"\x89PNG\n", None),
        (b"", None),
    ],
)
def test_first_bytes_name_the_type(head: bytes, media_type: str | None) -> None:
    """A container counts only with the format inside of it."""
    assert sniffed_image_type(b64encode(head).decode()) == media_type


def test_text_that_is_not_base64_has_no_type() -> None:
    """The media type that the client sent is kept."""
    assert sniffed_image_type("\N{SNOWMAN}") is None
