"""Messages of an OpenAI Chat Completions request, as the gateway writes them for an upstream."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType


class FunctionCall(msgspec.Struct, gc=False):
    """The called function; `arguments` is JSON in a string."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, gc=False, kw_only=True, omit_defaults=True):
    """A call in an assistant message."""

    id: str
    type: Literal["function"]
    function: FunctionCall
    extra_content: dict[str, dict[str, str]] | UnsetType = UNSET


class ImageUrl(msgspec.Struct, gc=False):
    """A URL, often a data URL."""

    url: str


class File(msgspec.Struct, gc=False):
    """A document as data URL."""

    filename: str
    file_data: str


class Part(msgspec.Struct, gc=False, omit_defaults=True):
    """A content part; exactly one of `text`, `image_url` and `file` is set."""

    type: Literal["text", "image_url", "file"]
    text: str | UnsetType = UNSET
    image_url: ImageUrl | UnsetType = UNSET
    file: File | UnsetType = UNSET
    cache_control: Raw | UnsetType = UNSET


class ReasoningDetail(msgspec.Struct, gc=False):
    """An entry of `reasoning_details`, for reasoning of earlier turns."""

    type: str
    text: str


class ChatMessage(msgspec.Struct, gc=False, omit_defaults=True):
    """One message; `content` is always written, as null if there is none."""

    role: str
    content: str | list[Part] | None
    tool_call_id: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_details: list[ReasoningDetail] | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    partial: bool | UnsetType = UNSET
    prefix: bool | UnsetType = UNSET


def text_part(text: str) -> Part:
    return Part("text", text)


def joined_parts(parts: list[Part]) -> str | list[Part]:
    """
    Return a message's content: a string if all parts are plain text, else the list.

    Many open-weight chat templates take strings only.
    """
    texts = [
        part.text for part in parts if isinstance(part.text, str) and part.cache_control is UNSET
    ]
    return "\n\n".join(texts) if len(texts) == len(parts) else parts
