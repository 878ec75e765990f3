"""Translates the content of input items of the Responses API to chat parts."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import decode_request

Part = dict[str, object]

_TEXTS: Final = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})


class ContentPart(msgspec.Struct):
    """A content part of any type."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    encrypted_content: str | None = None


_STRING: Final = msgspec.json.Decoder(str | None)
_SHOT: Final = msgspec.json.Decoder(ContentPart)
_CONTENT: Final = msgspec.json.Decoder(str | list[ContentPart] | None)


def read_content(raw: Raw, where: str) -> str | list[ContentPart]:
    """
    Return an item's content: a string, or parts.

    Args:
        raw: The content.
        where: The path of the item, for errors.

    Raises:
        GatewayError: BAD_REQUEST.
    """
    try:
        return decode_request(bytes(raw), _CONTENT) or ""
    except GatewayError as error:
        raise GatewayError(error.kind, f"{where}: {error.message}", param=where) from error


def chat_part(part: ContentPart, where: str) -> Part:
    """Return a content part in the chat form."""
    match part.type:
        case "input_image" if part.image_url:
            image: dict[str, object] = {"url": part.image_url}
            if part.detail in ("low", "high"):
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case "input_file" if part.file_data or part.file_url:
            document: dict[str, object] = {"file_data": part.file_data or part.file_url}
            if part.filename:
                document["filename"] = part.filename
            return {"type": "file", "file": document}
        case "input_image" | "input_file":
            needed = "image_url" if part.type == "input_image" else "file_data or file_url"
            message = f"{part.type} without {needed} is not supported by this model"
            raise GatewayError(ErrorKind.UNSUPPORTED, message, param=where)
        case "refusal":
            return {"type": "text", "text": part.refusal or ""}
        case kind if kind in _TEXTS:
            return {"type": "text", "text": part.text or ""}
        case other:
            message = f"content part type '{other}' is not supported by this model"
            raise GatewayError(ErrorKind.UNSUPPORTED, message, param=where)


def spoken(parts: list[ContentPart], where: str) -> str:
    """Return an assistant's text; its parts are joined without a separator."""
    texts = (chat_part(part, where).get("text") for part in parts)
    return "".join(text for text in texts if isinstance(text, str))


def joined(parts: list[Part]) -> str | list[Part]:
    """Return a string if all parts are text: many chat templates take strings only."""
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(texts) == len(parts):
        return "\n\n".join(text for text in texts if isinstance(text, str) and text)
    return parts


def reasoning_text(raw: Raw, where: str) -> str:
    """Return the text of a reasoning item's summary or content."""
    content = read_content(raw, where)
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if part.text)


def text_of(raw: Raw) -> str:
    """Return a string's value, other JSON as text, and null as the empty string."""
    if bytes(raw)[:1] == b'"':
        return decode_request(bytes(raw), _STRING) or ""
    if bytes(raw) == b"null":
        return ""
    return msgspec.json.format(bytes(raw), indent=-1).decode()


def screenshot(output: Raw, where: str) -> Part | None:
    """Return the image in the output of a computer call; None: it is something else."""
    if bytes(output)[:1] != b"{":
        return None
    shot = decode_request(bytes(output), _SHOT)
    if shot.type != "computer_screenshot":
        return None
    return chat_part(msgspec.structs.replace(shot, type="input_image"), where)
