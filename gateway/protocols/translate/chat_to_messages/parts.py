"""
Translates the content parts of an OpenAI message to Anthropic blocks.

The gateway fetches nothing for a client: a file by id is rejected, and an image by URL is sent as
URL. A part that only other models accept is replaced by a visible note instead of an error, since
agents resend their history and must be able to continue.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final
from urllib.parse import unquote

from msgspec import UNSET, Raw, UnsetType

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.message import Block, Source, text_block
from gateway.protocols.codec.absent import is_given
from gateway.protocols.openai_chat.request import File, Part
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.image_type import sniffed_image_type

_IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF: Final = "application/pdf"
_MOST_QUOTED: Final = 100_000
"""Most percent escapes in a data URL: decoding allocates an object for each."""
_LONGEST_HEAD: Final = 1024
"""Characters of a data URL in which its comma is searched."""
_NO_IMAGES: Final = "[image omitted: this model does not accept images]"
_NO_FILES: Final = "[document omitted: this model does not accept files]"
_CACHED: Final = Raw(b'{"type":"ephemeral"}')
_CACHED_LONGER: Final = Raw(b'{"type":"ephemeral","ttl":"1h"}')


def refused_part(index: int, kind: str) -> GatewayError:
    """Return the error for a content part, with the index of its message and its type."""
    return GatewayError(
        ErrorKind.UNSUPPORTED,
        f"content part type '{kind}' is not supported by this model",
        param=f"messages.{index}",
    )


def text_blocks(content: str | list[Part] | None, index: int) -> list[Block]:
    """
    Return the text of a system message, one block per part.

    Raises:
        GatewayError: UNSUPPORTED: a part is not text.
    """
    if content is None or isinstance(content, str):
        return [text_block(content)] if content and not content.isspace() else []
    for part in content:
        if part.type != "text":
            raise refused_part(index, part.type)
    return [block for part in content if (block := _text(part)) is not None]


def content_blocks(content: str | list[Part] | None, index: int, caps: Capabilities) -> list[Block]:
    """
    Return a user's or tool's content as blocks, without blank text.

    Anthropic rejects text blocks that are empty or contain only white space.

    Args:
        content: The message's content.
        index: The message's position, for errors.
        caps: The upstream's capabilities.

    Raises:
        GatewayError: UNSUPPORTED: a part without counterpart. BAD_REQUEST: an invalid one.
    """
    if content is None or isinstance(content, str):
        return text_blocks(content, index)
    return [block for part in content if (block := _block(part, index, caps)) is not None]


def is_replaced(part: Part, caps: Capabilities) -> bool:
    """Return whether a note replaces the part, since the model does not accept its type."""
    if part.type == "image_url":
        return not caps.images
    if part.type != "file" or caps.files or part.file is None:
        return False
    return not _data_url(part.file.file_data or "")[0].startswith("text/")


def _block(part: Part, index: int, caps: Capabilities) -> Block | None:
    match part.type:
        case "text":
            return _text(part)
        case "image_url":
            block = _image(part, index) if caps.images else text_block(_NO_IMAGES)
        case "file":
            block = _document(part.file or File(), index, caps)
        case kind:
            raise refused_part(index, kind)
    block.cache_control = _cache_control(part)
    return block


def _text(part: Part) -> Block | None:
    if not part.text or part.text.isspace():
        return None
    return Block("text", text=part.text, cache_control=_cache_control(part))


def _cache_control(part: Part) -> Raw | UnsetType:
    if is_given(part.cache_control):
        return part.cache_control
    if part.prompt_cache_breakpoint is None:
        return UNSET
    return _CACHED_LONGER if part.prompt_cache_breakpoint.ttl == "12h" else _CACHED


def _image(part: Part, index: int) -> Block:
    url = part.image_url if isinstance(part.image_url, str) else getattr(part.image_url, "url", "")
    scheme = url[:8].lower()
    if scheme.startswith(("https://", "http://")):
        return Block("image", source=Source("url", url=url))
    if not scheme.startswith("data:"):
        raise GatewayError(
            ErrorKind.UNSUPPORTED,
            "image_url: only http, https and data URLs are supported",
            param=f"messages.{index}",
        )
    media_type, is_base64, encoded = _data_url(url)
    if is_base64:
        # Anthropic rejects an image whose media type does not match its bytes.
        media_type = sniffed_image_type(encoded) or media_type
    if media_type == "image/jpg":
        media_type = "image/jpeg"
    if not is_base64 or media_type not in _IMAGE_TYPES:
        raise GatewayError(
            ErrorKind.UNSUPPORTED,
            f"image type '{media_type}' is not supported by this model; "
            "send base64 of image/jpeg, image/png, image/gif or image/webp",
            param=f"messages.{index}",
        )
    return Block("image", source=Source("base64", media_type=media_type, data=encoded))


def _document(file: File, index: int, caps: Capabilities) -> Block:
    if not file.file_data:
        raise GatewayError(
            ErrorKind.UNSUPPORTED,
            "content part type 'file' is only supported with file_data by this model",
            param=f"messages.{index}",
        )
    title = file.filename or UNSET
    if file.file_data[:8].lower().startswith(("https://", "http://")):
        if not caps.files:
            return text_block(_NO_FILES)
        return Block("document", source=Source("url", url=file.file_data), title=title)
    media_type, is_base64, encoded = _data_url(file.file_data)
    if not media_type and (file.filename or "").lower().endswith(".pdf"):
        media_type, is_base64, encoded = _PDF, True, file.file_data
    if media_type == _PDF and is_base64:
        if not caps.files:
            return text_block(_NO_FILES)
        source = Source("base64", media_type=_PDF, data=encoded)
        return Block("document", source=source, title=title)
    if media_type.startswith("text/"):
        text = _decoded(encoded, index) if is_base64 else _unquoted(encoded, index)
        if not caps.files:
            return text_block(f"{title}\n{text}" if title else text)
        source = Source("text", media_type="text/plain", data=text)
        return Block("document", source=source, title=title)
    raise GatewayError(
        ErrorKind.UNSUPPORTED,
        f"file type '{media_type}' is not supported by this model",
        param=f"messages.{index}",
    )


def _data_url(url: str) -> tuple[str, bool, str]:
    """Return media type, whether the data is base64, and the data; all empty for other URLs."""
    if url[:5].lower() != "data:":
        return "", False, ""
    head, _, encoded = url[5:].partition(",")
    media_type, *parameters = head[:_LONGEST_HEAD].lower().split(";")
    return media_type.strip(), "base64" in (name.strip() for name in parameters), encoded


def _unquoted(encoded: str, index: int) -> str:
    if encoded.count("%") > _MOST_QUOTED:
        raise GatewayError(
            ErrorKind.BAD_REQUEST,
            f"file_data: more than {_MOST_QUOTED:,} percent escapes; send base64",
            param=f"messages.{index}",
        )
    return unquote(encoded)


def _decoded(encoded: str, index: int) -> str:
    try:
        if "=" in encoded.rstrip("= \t\r\n"):  # what follows padding depends on the decoder
            raise ValueError("data after the padding")
        return base64.b64decode(encoded).decode("utf-8", "replace")
    except (binascii.Error, ValueError) as error:
        raise GatewayError(
            ErrorKind.BAD_REQUEST,
            "file_data: expected a data URL with base64",
            param=f"messages.{index}",
        ) from error
