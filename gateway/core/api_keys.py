"""
The form of a virtual key, its digest, and which header of a request carries it.

A key consists of the brand's prefix (`sk-capio-live-`), 43 base-62 digits of 256 random bits, and a
checksum of 6 base-62 digits: the CRC-32 of the rest. The checksum protects nothing; it rejects
typos, truncated keys and random probes before any cache or store lookup. Only the key's SHA-256 is
stored and compared.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import NamedTuple

RANDOM_BYTES = 32
BODY_LENGTH = 43
"""62**43 is just above 2**256."""
CHECKSUM_LENGTH = 6
"""62**6 is just above 2**35, so every CRC-32 fits."""

_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_AFTER_PREFIX = BODY_LENGTH + CHECKSUM_LENGTH


class Display(NamedTuple):
    """The parts of a key that may be shown and stored: enough to recognise it, not to use it."""

    prefix: str
    last4: str


def mint(random32: bytes, prefix: str) -> str:
    """
    Return the key for these 256 random bits.

    Args:
        random32: 32 bytes from the system's random source.
        prefix: ASCII, `sk-capio-live-`.

    Raises:
        ValueError: `random32` is not 32 bytes long, or `prefix` is not ASCII.
    """
    if len(random32) != RANDOM_BYTES:
        raise ValueError(f"a key needs {RANDOM_BYTES} random bytes, got {len(random32)}")
    body = prefix.encode("ascii") + _base62(int.from_bytes(random32, "big"), BODY_LENGTH)
    return (body + _checksum(body)).decode("ascii")


def well_formed(key: str | bytes, prefix: str) -> bool:
    """
    Return whether `key` has the prefix, length, alphabet and checksum of a virtual key.

    Accepts any header value, never raises, and costs about 1 us for any input.
    """
    if len(key) != len(prefix) + _AFTER_PREFIX:
        return False
    raw = key.encode("utf-8", "replace") if isinstance(key, str) else key
    secret = raw[-_AFTER_PREFIX:]
    if not secret.isalnum() or raw[:-_AFTER_PREFIX] != prefix.encode("utf-8", "replace"):
        return False
    return _checksum(raw[:-CHECKSUM_LENGTH]) == raw[-CHECKSUM_LENGTH:]


def may_be_key(key: str, prefix: str) -> bool:
    """Return whether `key` has the prefix and length of a virtual key; nearly free."""
    return len(key) == len(prefix) + _AFTER_PREFIX and key.startswith(prefix)


def digest(key: str | bytes) -> bytes:
    """Return the key's SHA-256, 32 bytes: the only form in which a key is stored and compared."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


def display(key: str) -> Display:
    """Return the prefix and the last four characters of a key that `mint` made."""
    return Display(key[:-_AFTER_PREFIX], key[-4:])


def pick_key(authorization: bytes | None, x_api_key: bytes | None, prefix: str) -> str | None:
    """
    Return the key that a request sends, well formed or not; None if it sends none.

    Both headers are accepted on every path: `Authorization: Bearer` (scheme in any case) and
    `x-api-key`. One of them may hold another vendor's credential: if the values differ, the
    well-formed one is used; if both or neither are well formed, Bearer takes precedence. An empty
    value counts as absent.
    """
    bearer = _bearer(authorization)
    other = x_api_key.strip() if x_api_key else b""
    if not bearer or not other or bearer == other:
        picked = bearer or other
    elif well_formed(other, prefix) and not well_formed(bearer, prefix):
        picked = other
    else:
        picked = bearer
    return picked.decode("latin-1") if picked else None


def _bearer(authorization: bytes | None) -> bytes:
    if authorization is None:
        return b""
    parts = authorization.split(None, 1)
    if len(parts) != 2 or parts[0].lower() != b"bearer":
        return b""
    return parts[1].strip()


def _checksum(body: bytes) -> bytes:
    return _base62(zlib.crc32(body), CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> bytes:
    """Return the last `length` base-62 digits of `number`, most significant first."""
    digits = bytearray(length)
    for place in range(length - 1, -1, -1):
        number, digit = divmod(number, 62)
        digits[place] = _DIGITS[digit]
    return bytes(digits)
