"""
Packs reasoning into `encrypted_content`, so that clients can send signed reasoning back.

The format is `gw1.` and base64url of `{"r": text, "d": signed reasoning details}`. It is not
encrypted: only the member's name, which the API defines, says so.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64encode
from typing import Final

import msgspec
from msgspec import Raw

from gateway.protocols.codec.json_decode import decode_or_none
from gateway.protocols.ids import SIGNATURE, decode_base64url


class PackedReasoning(msgspec.Struct, omit_defaults=True):
    """The text of reasoning and its signed or encrypted parts, as `reasoning_details` entries."""

    r: str
    d: list[Raw] = []


OPENAI_ENCRYPTED: Final = "gAAAA"
"""How a Fernet token begins, which only OpenAI can decrypt."""

_MOST_DETAILS: Final = 4096
"""Most details in a reasoning item; models sign fewer parts. Braces in a text count, too."""

_PACKED: Final = msgspec.json.Decoder(PackedReasoning)


def pack_reasoning(text: str, details: list[Raw]) -> str:
    """Return the `encrypted_content` of a reasoning item."""
    packed = msgspec.json.encode(PackedReasoning(text, details))
    return SIGNATURE + urlsafe_b64encode(packed).rstrip(b"=").decode()


def unpack_reasoning(encrypted: str) -> PackedReasoning | None:
    """Return the reasoning that `pack_reasoning` packed; None for other content."""
    if not encrypted.startswith(SIGNATURE):
        return None
    try:
        packed = decode_base64url(encrypted[len(SIGNATURE) :])
    except (binascii.Error, ValueError):
        return None
    return None if packed.count(b"{") > _MOST_DETAILS else decode_or_none(packed, _PACKED)


def signed_entries(details: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the details that must be sent back unchanged: signed or encrypted ones."""
    return [entry for entry in details if entry.get("signature") or entry.get("data")]
