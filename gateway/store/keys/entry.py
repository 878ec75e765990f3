"""
What Redis holds of a virtual key, and what workers are told when it changes.

An entry is a line `<version> <checked_at>` and, after its line feed, the principal as JSON; without
JSON it says that there is no such key (as of that version: 0 for a key never seen). `checked_at` is
when SQL was asked, in Unix seconds. A message is `<hex digest> <version>`. Of the key itself, only
the SHA-256 is in either.
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
"""How much longer than fresh an entry stays, for the time in which SQL may be away."""
_LONGEST_NUMBER = 15

_decode_principal = msgspec.json.Decoder(Principal).decode
_encode = msgspec.json.Encoder().encode


class Change(Protocol):
    """A key as it is now, after a change."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key."""

    @property
    def principal(self) -> Principal:
        """With the state and version that the change gave it."""


class KeyEntry(msgspec.Struct, frozen=True):
    """One entry. `principal` is None when there is no such key."""

    version: int
    checked_at: float
    principal: Principal | None


class KeyLifetimes(msgspec.Struct, frozen=True):
    """How long entries live in Redis, in seconds."""

    known_s: float
    unknown_s: float

    def of(self, entry: KeyEntry) -> int:
        """Return the entry's life in milliseconds."""
        if entry.principal is None and entry.version == 0:
            return int(self.unknown_s * 1000)
        return int((self.known_s + SQL_OUTAGE_S) * 1000)


def key_entry_script() -> LuaScript:
    """Return the script that writes an entry; for the bus to load at connect."""
    return read_script(_LUA, KEY_ENTRY_SCRIPT)


def entry_name(key_prefix: str, digest: bytes) -> bytes:
    """Return the Redis key of the entry of the virtual key with this digest."""
    return f"{key_prefix}key:{digest.hex()}".encode()


def channel_name(key_prefix: str) -> str:
    """Return the channel on which changes are told."""
    return f"{key_prefix}keys:changed"


def encode_entry(entry: KeyEntry) -> bytes:
    """Return the entry as Redis holds it."""
    known = b"" if entry.principal is None else _encode(entry.principal)
    return b"%d %d\n%b" % (entry.version, entry.checked_at, known)


def decode_entry(raw: bytes) -> KeyEntry | None:
    """Return the entry; None when it is none of ours, whatever it is."""
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
    """Return what workers are told."""
    return b"%b %d" % (digest.hex().encode(), version)


def decode_message(raw: bytes) -> tuple[bytes, int] | None:
    """Return digest and version; None when it is no message of ours."""
    digest, _, version = raw.partition(b" ")
    if not _is_number(version):
        return None
    try:
        return bytes.fromhex(digest.decode("ascii")), int(version)
    except ValueError:
        return None


def write_arguments(entry: KeyEntry, lifetimes: KeyLifetimes) -> list[Argument]:
    """Return the script's ARGV for an entry that was read from SQL: nobody is told."""
    return [entry.version, encode_entry(entry), lifetimes.of(entry), b"", b"", b"0"]


def announce_arguments(
    key_prefix: str, change: Change, lifetimes: KeyLifetimes, *, now: float, always: bool
) -> list[Argument]:
    """
    Return the script's ARGV for a change.

    Args:
        now: Unix seconds.
        always: Tell the workers also when Redis knows this version already.
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
    """Return whether these are digits that Lua, too, can count with exactly."""
    return digits.isdigit() and len(digits) <= _LONGEST_NUMBER
