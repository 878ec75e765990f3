"""
Reasoning in `encrypted_content`: what lets signed reasoning survive a client that keeps no state.

`gw1.` and base64url of `{"r": text, "d": signed reasoning details}`. The name of the member is the
public API's; the gateway hides nothing in it, it only packs.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec
from msgspec import Raw

from gateway.protocols.ids import SIGNATURE


class PackedReasoning(msgspec.Struct, omit_defaults=True):
    """Reasoning's text and its signed or encrypted parts, as `reasoning_details` entries."""

    r: str
    d: list[Raw] = []


_MOST_DETAILS: Final = 4096
"""Of one reasoning item; no model signs as many parts. Braces in a text count, too."""

_PACKED: Final = msgspec.json.Decoder(PackedReasoning)


def pack_reasoning(text: str, details: list[Raw]) -> str:
    """Return the `encrypted_content` of a reasoning item."""
    packed = msgspec.json.encode(PackedReasoning(text, details))
    return SIGNATURE + urlsafe_b64encode(packed).rstrip(b"=").decode()


def unpack_reasoning(encrypted: str) -> PackedReasoning | None:
    """Return what `pack_reasoning` packed; None for what another service encrypted."""
    if not encrypted.startswith(SIGNATURE):
        return None
    text = encrypted[len(SIGNATURE) :]
    try:
        packed = urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
        if packed.count(b"{") > _MOST_DETAILS:
            return None
        return _PACKED.decode(packed)
    except (binascii.Error, ValueError, RecursionError):
        return None


def signed_entries(details: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return those reasoning details that must come back as they are: signed or encrypted ones."""
    return [entry for entry in details if entry.get("signature") or entry.get("data")]
