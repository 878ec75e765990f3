"""
Types of an OpenAI-wire upstream's whole responses, stream chunks and usage, decoded leniently.

Only the members that the gateway uses are decoded. Providers report reasoning and cached tokens in
different members, which are unified here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.protocols.codec.json_decode import join_surrogates

FAILED_REASONS: Final = frozenset({"insufficient_system_resource", "error"})
"""Finish reasons of an upstream that failed, possibly after some text."""


class FunctionFragment(msgspec.Struct, gc=False):
    """A function's name and a piece of its arguments."""

    name: str | None = None
    arguments: str | None = None


class CallFragment(msgspec.Struct, gc=False):
    """A piece of a tool call, or a whole one."""

    index: int | None = None
    id: str | None = None
    function: FunctionFragment | None = None
    extra_content: object = None
    """Gemini's `google.thought_signature` is in here."""


LEGACY_INDEX: Final = -1
"""Index of the only call of the deprecated member `function_call`."""


class Delta(msgspec.Struct):
    """A chunk's delta or a whole response's message."""

    content: str | list[object] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, object]] | None = None
    refusal: str | None = None
    tool_calls: list[CallFragment] | None = None
    function_call: FunctionFragment | None = None

    @property
    def calls(self) -> Sequence[CallFragment]:
        """The pieces of tool calls, including that of `function_call`."""
        calls = self.tool_calls or ()
        if self.function_call is None:
            return calls
        return *calls, CallFragment(LEGACY_INDEX, None, self.function_call)


class Choice(msgspec.Struct):
    """One of the alternatives; only the one with index 0 is read."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    stop_reason: object = None
    """vLLM: the stop string that was hit."""
    usage: dict[str, object] | None = None


class RawChunk(msgspec.Struct, gc=False):
    """The members of a chunk as JSON, for readers that decode as little as possible."""

    choices: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    x_groq: msgspec.Raw = msgspec.Raw()
    service_tier: object = None


class Chunk(msgspec.Struct):
    """A stream chunk or a whole response."""

    id: str | None = None
    choices: list[Choice] | None = None
    usage: dict[str, object] | None = None
    x_groq: object = None
    error: object = None

    @property
    def reported_usage(self) -> dict[str, object] | None:
        """The usage object, which Kimi has within a choice and Groq within `x_groq`."""
        if self.usage:
            return self.usage
        for choice in self.choices or ():
            if choice.usage:
                return choice.usage
        found = self.x_groq.get("usage") if isinstance(self.x_groq, dict) else None
        return found if isinstance(found, dict) else None

    @property
    def first_choice(self) -> Choice | None:
        """The choice with index 0; a missing index counts as 0."""
        for choice in self.choices or ():
            if not choice.index:
                return choice
        return None


CHUNK: Final = msgspec.json.Decoder(Chunk)


def content_texts(content: str | list[object] | None) -> tuple[str, str]:
    """Return the text and the reasoning in `content`: a string, or Mistral's list of parts."""
    if content is None or isinstance(content, str):
        return content or "", ""
    texts: list[str] = []
    reasoning: list[str] = []
    for part in content:
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        thinking = part.get("thinking")
        if isinstance(thinking, str):
            reasoning.append(thinking)
        elif isinstance(thinking, list):
            reasoning.append(content_texts(thinking)[0])
    return "".join(texts), "".join(reasoning)


def detail_text(details: list[dict[str, object]]) -> str:
    """Return the text in `reasoning_details`, signed or not."""
    texts = (entry.get("text") or entry.get("summary") for entry in details)
    return "".join(text for text in texts if isinstance(text, str))


def reasoning_and_text(delta: Delta) -> tuple[str, str]:
    """
    Return the reasoning and the text of a message.

    Providers send the same reasoning under several names: only the first that is not empty counts.
    """
    text, parts = content_texts(delta.content)
    reasoning = delta.reasoning_content or delta.reasoning or parts
    return reasoning or detail_text(delta.reasoning_details or []), text


def thought_signature(extra_content: object) -> str | None:
    """Return Gemini's `google.thought_signature` of a call, or None."""
    google = extra_content.get("google") if isinstance(extra_content, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return join_surrogates(signature) if isinstance(signature, str) and signature else None
