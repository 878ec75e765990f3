"""Content parts of Responses items, in the form of chat messages."""

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
    filename: str | None = None
    encrypted_content: str | None = None


_STRING: Final = msgspec.json.Decoder(str | None)
_CONTENT: Final = msgspec.json.Decoder(str | list[ContentPart] | None)


def read_content(raw: Raw, where: str) -> str | list[ContentPart]:
    """
    Return a text or the parts of a content.

    Raises:
        GatewayError: BAD_REQUEST, with `where` as `param`.
    """
    try:
        return decode_request(bytes(raw), _CONTENT) or ""
    except GatewayError as error:
        raise GatewayError(error.kind, f"{where}: {error.message}", param=where) from error


def chat_part(part: ContentPart, where: str) -> Part:
    """Return a content part in the chat form."""
    match part.type:
        case "input_image" | "computer_screenshot" if part.image_url:
            image: dict[str, object] = {"url": part.image_url}
            if part.detail in ("low", "high"):
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case "input_file" if part.file_data:
            document: dict[str, object] = {"file_data": part.file_data}
            if part.filename:
                document["filename"] = part.filename
            return {"type": "file", "file": document}
        case "input_image" | "computer_screenshot" | "input_file":
            needed = "file_data" if part.type == "input_file" else "image_url"
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
    """Return an assistant's text; its parts were one stream."""
    texts = (chat_part(part, where).get("text") for part in parts)
    return "".join(text for text in texts if isinstance(text, str))


def joined(parts: list[Part]) -> str | list[Part]:
    """Return a string if all parts are text: many chat templates take strings only."""
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(texts) == len(parts):
        return "\n\n".join(text for text in texts if isinstance(text, str) and text)
    return parts


def reasoning_text(raw: Raw, where: str) -> str:
    """Return the text of a summary, or of a reasoning item's content."""
    content = read_content(raw, where)
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if part.text)


def json_text(raw: Raw) -> str:
    """Return a string's value; any other JSON as its text, null as nothing."""
    if bytes(raw)[:1] == b'"':
        return decode_request(bytes(raw), _STRING) or ""
    if bytes(raw) == b"null":
        return ""
    return msgspec.json.format(bytes(raw), indent=-1).decode()
