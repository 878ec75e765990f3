"""
Stored responses of the Responses API: their names, their parts and how these are encrypted.

1. As with `Idempotency-Key`, everything stored is a keyed hash or encrypted; the keys are derived
   by HKDF-SHA256 from the client's raw API key, which is not stored. No other key reads them.
2. A response has two parts, sealed separately: its input, which a follow-up with
   `previous_response_id` needs, and its object, whose output an item reference needs.
3. A part is bound to its name and kind, and compressed: conversations are text.
"""

from __future__ import annotations

import enum
import hmac
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.core.model import Principal

NAME_BYTES: Final = 16
NONCE_BYTES: Final = 12

_SALT: Final = b"gateway stored response, form 1"
_TAG_BYTES: Final = 16
_SIZE_BYTES: Final = 4
_LEVEL: Final = 1
"""zlib level: 1 shrinks conversations to a fifth at 100 MB/s; higher ones gain little."""


class Part(enum.Enum):
    """A part of a stored response. The value names it in Redis and in what it is bound to."""

    INPUT = b"i"
    RESPONSE = b"r"


class StoredInput(msgspec.Struct, frozen=True, array_like=True):
    """The input that a request added to its conversation."""

    items: bytes
    """A JSON array; every item has an id."""
    ancestors: tuple[str, ...] = ()
    """The tokens in the ids of the responses that this one continues, oldest first."""


SealedParts = Mapping[Part, bytes]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_input: Final = msgspec.msgpack.Decoder(StoredInput).decode


class ResponseSealer:
    """
    The keys of one client for names and parts of its responses. Creating it costs 8 us.

    Args:
        api_key: The raw API key; it is not kept.
        principal: The principal that the key authenticates.
    """

    __slots__ = ("_key_id", "_name_key", "_seal_key", "account_id")

    def __init__(self, api_key: str, principal: Principal) -> None:
        keys = HKDF(SHA256(), 64, _SALT, b"name, seal").derive(api_key.encode())
        self._name_key, self._seal_key = keys[:32], keys[32:]
        self._key_id = principal.key_id
        self.account_id = principal.account_id

    def name(self, token: str) -> bytes:
        """Return the name of the response with this token, 16 bytes."""
        parts = _encode((self.account_id, self._key_id, token))
        return hmac.digest(self._name_key, parts, "sha256")[:NAME_BYTES]

    def seal(self, name: bytes, part: Part, plain: bytes, nonce: bytes) -> bytes:
        """
        Return a part encrypted for its name.

        Args:
            name: The response's name.
            part: The kind of the part.
            plain: The part's bytes.
            nonce: 12 random bytes, never used twice with the same API key.
        """
        packed = len(plain).to_bytes(_SIZE_BYTES, "big") + zlib.compress(plain, _LEVEL)
        return nonce + AESGCM(self._seal_key).encrypt(nonce, packed, name + part.value)

    def unseal(self, name: bytes, part: Part, sealed: bytes, most: int) -> bytes | None:
        """
        Return the bytes of a part; None if it was altered, or sealed for another name or part.

        Raises:
            OverflowError: It has more than `most` bytes; nothing was decompressed.
        """
        if len(sealed) < NONCE_BYTES + _SIZE_BYTES + _TAG_BYTES:
            return None
        nonce, encrypted = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            packed = AESGCM(self._seal_key).decrypt(nonce, encrypted, name + part.value)
        except InvalidTag:
            return None
        if int.from_bytes(packed[:_SIZE_BYTES], "big") > most:
            raise OverflowError
        return zlib.decompress(packed[_SIZE_BYTES:])


def encode_input(items: bytes, ancestors: Sequence[str]) -> bytes:
    """Return an input part's bytes."""
    return _encode(StoredInput(items, tuple(ancestors)))


def decode_input(plain: bytes) -> StoredInput:
    """Return the input that `encode_input` encoded."""
    return _decode_input(plain)
