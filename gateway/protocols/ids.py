"""
Converts ids, names and signatures between the wires so that they survive the round trip.

The same input always gives the same output: a client resends its history with every request, and
the provider's prompt cache and the model's chat template need it unchanged.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.protocols.codec.json_decode import decode_or_none

MAX_NAME: Final = 64
"""Characters of a tool name, on both wires."""
SIGNATURE: Final = "gw1."
"""Prefix of the signatures of reasoning by models other than Anthropic's; no real one has it."""

_ENCODED: Final = "gwid_"
_LEGAL: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9_-]")


class _SignaturePayload(msgspec.Struct):
    g: str


_PAYLOAD: Final = msgspec.json.Decoder(_SignaturePayload)


def is_legal(text: str) -> bool:
    """Return whether `text` is a valid id and name on both wires: `[A-Za-z0-9_-]{1,64}`."""
    return _LEGAL.fullmatch(text) is not None


def cleaned(text: str) -> str:
    """Return `text` without the characters that Anthropic does not allow in ids."""
    return _ILLEGAL.sub("", text)


def to_anthropic_id(tool_id: str) -> str:
    """Return a tool-call id that the Anthropic wire accepts; `from_encoded_id` reverses it."""
    if is_legal(tool_id):
        return tool_id
    return _ENCODED + _b64(_utf8(tool_id))


def from_encoded_id(tool_id: str) -> str:
    """Return the id from which `to_anthropic_id` made `tool_id`; other ids are returned as is."""
    if not tool_id.startswith(_ENCODED):
        return tool_id
    try:
        decoded = decode_base64url(tool_id[len(_ENCODED) :]).decode()
    except (binascii.Error, ValueError):
        return tool_id
    return decoded or tool_id


def to_openai_id(tool_id: str, longest: int | None, *, exact: bool = False) -> str:
    """
    Return a tool-call id for an OpenAI-wire upstream.

    Args:
        tool_id: From the Anthropic client's tool call or tool result.
        longest: Characters the upstream accepts (OpenAI: 40); None: no limit.
        exact: The upstream accepts only letters and digits, `longest` of them (Mistral: 9).
    """
    original = from_encoded_id(tool_id)
    if exact and longest is not None:
        if len(original) == longest and original.isascii() and original.isalnum():
            return original
        return hashlib.sha256(_utf8(original)).hexdigest()[:longest]
    if longest is None or len(original) <= longest:
        return original
    return "call_" + hashlib.sha256(_utf8(original)).hexdigest()[:32]


def missing_id(upstream_id: str, ordinal: int) -> str:
    """
    Return an id for a tool call without one.

    Args:
        upstream_id: The upstream's message id; may be empty.
        ordinal: Position among the response's calls, from 0.
    """
    return f"toolu_{cleaned(upstream_id)}_{ordinal}"


class UnusedIds:
    """
    Makes ids unique by appending a number to repeated ones.

    Args:
        used: Ids that are taken.
    """

    __slots__ = ("_next", "_used")

    def __init__(self, used: Iterable[str]) -> None:
        self._used = set(used)
        self._next: dict[str, int] = {}

    def take(self, tool_id: str) -> str:
        """Return `tool_id`, with `_2`, `_3`, ... appended if it is taken, and take it."""
        unused = tool_id
        # The next number is remembered: counting up from 2 for each repetition is quadratic.
        number = self._next.get(tool_id, 2)
        while unused in self._used:
            unused = f"{tool_id}_{number}"
            number += 1
            self._next[tool_id] = number
        self._used.add(unused)
        return unused


def message_id(upstream_id: str | None) -> str:
    """Return Anthropic's message id for an OpenAI-wire response."""
    return "msg_" + (cleaned(upstream_id or "") or "unknown")


def short_name(name: str) -> str:
    """Return a tool name both wires accept: the name, or its start and 8 hex digits of its hash."""
    if is_legal(name):
        return name
    digest = hashlib.sha256(_utf8(name)).hexdigest()[:8]
    return f"{_ILLEGAL.sub('_', name[:55])}_{digest}"


def is_synthetic(signature: str) -> bool:
    """Return whether a thinking block's signature was made by the gateway."""
    return signature.startswith(SIGNATURE)


def signature_of(thought_signature: str) -> str:
    """Return the signature of the empty thinking block that carries a Gemini signature."""
    return SIGNATURE + _b64(msgspec.json.encode(_SignaturePayload(g=thought_signature)))


def thought_signature_in(signature: str) -> str | None:
    """Return Gemini's signature that `signature_of` packed, or None."""
    if not signature.startswith(SIGNATURE) or len(signature) == len(SIGNATURE):
        return None
    try:
        payload = decode_base64url(signature[len(SIGNATURE) :])
    except (binascii.Error, ValueError):
        return None
    found = decode_or_none(payload, _PAYLOAD)
    return None if found is None else found.g


def _b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes:
    """
    Return what is encoded up to the padding, which may be absent.

    Python 3.14 would read on after the padding.

    Raises:
        binascii.Error: It is not base64.
    """
    text = text.partition("=")[0]
    return urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
