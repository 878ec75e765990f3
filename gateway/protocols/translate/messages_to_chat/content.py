"""
Translates the content blocks of an Anthropic request to parts of an OpenAI message.

A block in the history must not make every later request fail: one that the model does not accept is
replaced by a visible note. Only content that the gateway would have to fetch (a file id, a
document's URL) is rejected.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.request import Block, Source
from gateway.protocols.codec.absent import is_given
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.openai_chat.message import File, ImageUrl, Part, text_part
from gateway.protocols.translate.capabilities import Capabilities

NO_IMAGES: Final = "[image omitted: this model does not accept images]"
NO_FILES: Final = "[document omitted: this model does not accept files]"

_SOURCE: Final = msgspec.json.Decoder(Source)
_TEXT: Final = msgspec.json.Decoder(str)
_TEXT_OR_BLOCKS: Final = msgspec.json.Decoder(str | list[Block] | None)


def unsupported_block(where: str, kind: str) -> GatewayError:
    """Return the error for a block type; `where` is the field's path."""
    return GatewayError(
        ErrorKind.UNSUPPORTED,
        f"{where}: block type '{kind}' is not supported by this model",
        param=where,
    )


def block_parts(block: Block, caps: Capabilities, where: str) -> list[Part]:
    """
    Return the parts of one block of a user's message; empty text has none.

    Args:
        block: Any type except `tool_result`.
        caps: The upstream's capabilities.
        where: The path of the message's content, for errors.

    Raises:
        GatewayError: UNSUPPORTED for an unknown type or content that would have to be fetched,
            BAD_REQUEST for a block without required members.
    """
    match block.type:
        case "text":
            parts = [text_part(block.text)] if block.text else []
        case "image":
            parts = [_image(block, caps, where)]
        case "document":
            parts = _document(block, caps, where)
        case "search_result":
            parts = [text_part(search_result_text(block))]
        case "compaction":
            text = contained_text(block.content)
            parts = [text_part(text)] if text else []
        case _:
            raise unsupported_block(where, block.type)
    return _marked(parts, block.cache_control, caps)


def system_parts(blocks: list[Block], caps: Capabilities) -> list[Part]:
    """Return the text blocks of a system prompt as parts, without empty ones."""
    return [
        part
        for block in blocks
        if block.text
        for part in _marked([text_part(block.text)], block.cache_control, caps)
    ]


def search_result_text(block: Block) -> str:
    """Return title, source and texts of a search result, one per line."""
    source = decode_request(bytes(block.source), _TEXT) if is_given(block.source) else None
    return "\n".join(line for line in (block.title, source, contained_text(block.content)) if line)


def contained_text(content: Raw) -> str:
    """Return the text of a block's content: the string, or its text blocks, one per line."""
    if not is_given(content):
        return ""
    value = decode_request(bytes(content), _TEXT_OR_BLOCKS)
    if isinstance(value, list):
        return "\n".join(block.text for block in value if block.text)
    return value or ""


def _image(block: Block, caps: Capabilities, where: str) -> Part:
    if not caps.images:
        return text_part(NO_IMAGES)
    source = _source(block, where)
    if source.type == "base64":
        return Part("image_url", image_url=ImageUrl(_data_url(source, "image/png")))
    if source.type == "url" and source.url:
        return Part("image_url", image_url=ImageUrl(source.url))
    raise _unsupported_source("image", source.type, where)


def _document(block: Block, caps: Capabilities, where: str) -> list[Part]:
    source = _source(block, where)
    head = "\n".join(line for line in (block.title, block.context) if line)
    if source.type == "text":
        text = "\n".join(line for line in (head, source.data) if line)
        return [text_part(text)] if text else []
    if source.type == "content":
        parts = [text_part(head)] if head else []
        return parts + _embedded_parts(source.content, caps, where)
    if source.type != "base64":
        raise _unsupported_source("document", source.type, where)
    if not caps.files:
        return [text_part(NO_FILES)]
    name = block.title or "document.pdf"
    return [Part("file", file=File(name, _data_url(source, "application/pdf")))]


def _embedded_parts(content: Raw, caps: Capabilities, where: str) -> list[Part]:
    value = decode_request(bytes(content), _TEXT_OR_BLOCKS) if is_given(content) else None
    if isinstance(value, list):
        if any(block.type == "document" for block in value):
            # Each level would be parsed again: 300 levels around 30 MB take minutes.
            raise unsupported_block(where, "document in a document")
        return [part for block in value for part in block_parts(block, caps, where)]
    return [text_part(value)] if value else []


def _source(block: Block, where: str) -> Source:
    if not is_given(block.source):
        raise GatewayError(ErrorKind.BAD_REQUEST, f"{where}: source: Field required", param=where)
    return decode_request(bytes(block.source), _SOURCE)


def _data_url(source: Source, media_type: str) -> str:
    return f"data:{source.media_type or media_type};base64,{source.data or ''}"


def _unsupported_source(block_type: str, kind: str, where: str) -> GatewayError:
    return GatewayError(
        ErrorKind.UNSUPPORTED,
        f"{block_type} source type '{kind}' is not supported by this model",
        param=where,
    )


def _marked(parts: list[Part], marker: Raw, caps: Capabilities) -> list[Part]:
    """Put a block's cache marker on its last part, if the dialect keeps markers."""
    if caps.cache_control == "keep" and parts and is_given(marker):
        parts[-1].cache_control = marker
    return parts
