"""
The cache entry of a virtual key in Redis, and the message published when the key changes.

An entry is a line `<version> <checked_at>` followed by the principal as JSON; without JSON it means
that there is no such key (as of that version: 0 for an unknown key). `checked_at` is the time of
the SQL query in Unix seconds. A message is `<hex digest> <version>`. Both contain only the SHA-256
of the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from gateway.core.model import Principal
from gateway.store.redis.connection import Argument
from gateway.store.redis.scripts import LuaScript, read_script

_LUA = Path(__file__).parent / "lua"
KEY_ENTRY_SCRIPT = "key_entry"
SQL_OUTAGE_S = 86_400
"""How long an entry is kept after it is stale, for use while SQL is unavailable."""
_LONGEST_NUMBER = 15

_decode_principal = msgspec.json.Decoder(Principal).decode
_encode = msgspec.json.Encoder().encode


class Change(Protocol):
    """The current state of a key after a change."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key."""

    @property
    def principal(self) -> Principal:
        """The principal after the change."""


class KeyEntry(msgspec.Struct, frozen=True):
    """One entry. `principal` is None if there is no such key."""

    version: int
    checked_at: float
    principal: Principal | None


class KeyLifetimes(msgspec.Struct, frozen=True):
    """How long entries live in Redis, in seconds."""

    known_s: float
    unknown_s: float

    def of(self, entry: KeyEntry) -> int:
        """Return the entry's lifetime in milliseconds."""
        if entry.principal is None and entry.version == 0:
            return int(self.unknown_s * 1000)
        return int((self.known_s + SQL_OUTAGE_S) * 1000)


def key_entry_script() -> LuaScript:
    return read_script(_LUA, KEY_ENTRY_SCRIPT)


def entry_name(key_prefix: str, digest: bytes) -> bytes:
    """Return the Redis key of the entry of the virtual key with this digest."""
    return f"{key_prefix}key:{digest.hex()}".encode()


def channel_name(key_prefix: str) -> str:
    """Return the channel on which changes are published."""
    return f"{key_prefix}keys:changed"


def encode_entry(entry: KeyEntry) -> bytes:
    """Return the entry's form in Redis."""
    known = b"" if entry.principal is None else _encode(entry.principal)
    return b"%d %d\n%b" % (entry.version, entry.checked_at, known)


def decode_entry(raw: bytes) -> KeyEntry | None:
    """Return the entry; None if `raw` is malformed."""
    head, newline, known = raw.partition(b"\n")
    version, _, checked_at = head.partition(b" ")
    if not (newline and _is_number(version) and _is_number(checked_at)):
        return None
    try:
        principal = _decode_principal(known) if known else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return KeyEntry(int(version), int(checked_at), principal)


def encode_message(digest: bytes, version: int) -> bytes:
    """Return the message for a change."""
    return b"%b %d" % (digest.hex().encode(), version)


def decode_message(raw: bytes) -> tuple[bytes, int] | None:
    """Return digest and version; None if `raw` is malformed."""
    digest, _, version = raw.partition(b" ")
    if not _is_number(version):
        return None
    try:
        return bytes.fromhex(digest.decode("ascii")), int(version)
    except ValueError:
        return None


def write_arguments(entry: KeyEntry, lifetimes: KeyLifetimes) -> list[Argument]:
    """Return the script's ARGV for an entry read from SQL, which is not published."""
    return [entry.version, encode_entry(entry), lifetimes.of(entry), b"", b"", b"0"]


def announce_arguments(
    key_prefix: str, change: Change, lifetimes: KeyLifetimes, *, now: float, always: bool
) -> list[Argument]:
    """
    Return the script's ARGV for a change.

    Args:
        now: Unix seconds.
        always: Publish even if Redis already has this version.
    """
    principal = change.principal
    entry = KeyEntry(principal.version, now, principal)
    return [
        entry.version,
        encode_entry(entry),
        lifetimes.of(entry),
        channel_name(key_prefix),
        encode_message(change.digest, entry.version),
        b"1" if always else b"0",
    ]


def _is_number(digits: bytes) -> bool:
    """Return whether these are digits of an integer that Lua represents exactly."""
    return digits.isdigit() and len(digits) <= _LONGEST_NUMBER
