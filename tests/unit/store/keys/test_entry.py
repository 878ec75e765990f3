"""The entry of a key in Redis, and the message of a change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Principal
from gateway.store.keys.entry import (
    KeyEntry,
    KeyLifetimes,
    channel_name,
    decode_entry,
    decode_message,
    encode_entry,
    encode_message,
    entry_name,
)

PRINCIPAL = Principal("key_1", "acc_1", "laptop", "active", 3, None, frozenset({"m"}))
DIGEST = bytes(range(32))

principals = st.builds(
    Principal,
    key_id=st.text(),
    account_id=st.text(),
    key_name=st.text(),
    state=st.sampled_from(["active", "disabled", "revoked"]),
    version=st.integers(1, 10**12),
    expires_at=st.one_of(st.none(), st.integers(0, 2**40)),
    models=st.one_of(st.none(), st.frozensets(st.text(), max_size=3)),
)


def test_entry_stands_as_documented() -> None:
    """The bytes in Redis are a contract between versions of the gateway."""
    entry = KeyEntry(3, 1_700_000_000, PRINCIPAL)

    raw = encode_entry(entry)

    assert raw == (
        b'3 1700000000\n{"key_id":"key_1","account_id":"acc_1","key_name":"laptop",'
        b'"state":"active","version":3,"expires_at":null,"models":["m"],"limits":null}'
    )
    assert decode_entry(raw) == entry


def test_entry_of_no_key_is_a_head_alone() -> None:
    """The entry of an unknown key has a head and no principal."""
    assert encode_entry(KeyEntry(0, 5.7, None)) == b"0 5\n"
    assert decode_entry(b"0 5\n") == KeyEntry(0, 5, None)


@given(principals, st.integers(0, 2**33))
def test_entry_round_trip_is_identity(principal: Principal, checked_at: int) -> None:
    """Encoding and decoding an entry returns the same principal."""
    entry = KeyEntry(principal.version, checked_at, principal)

    assert decode_entry(encode_entry(entry)) == entry


@given(st.binary(max_size=100))
def test_entry_noise_is_none_or_an_entry(raw: bytes) -> None:
    """Whatever stands in Redis, reading it does not raise."""
    decode_entry(raw)
    decode_message(raw)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\n", b"1\n", b"1 x\n", b"-1 2\n", b"1 2", b"1 2\nnot json", b"9" * 5000 + b" 1\n"],
)
def test_entry_of_another_kind_is_none(raw: bytes) -> None:
    """Bytes that are no entry are decoded to None."""
    assert decode_entry(raw) is None


def test_message_names_digest_and_version() -> None:
    """A message is the hex digest and the version."""
    raw = encode_message(DIGEST, 7)

    assert raw == DIGEST.hex().encode() + b" 7"
    assert decode_message(raw) == (DIGEST, 7)


@pytest.mark.parametrize("raw", [b"", b"zz 1", b"00", b"00 -1", b"\xff 1", b"00 " + b"1" * 5000])
def test_message_of_another_kind_is_none(raw: bytes) -> None:
    """What is no message is distinguished, so that the cache can forget everything."""
    assert decode_message(raw) is None


def test_names_stand_under_the_prefix() -> None:
    """Entry and channel carry the configured prefix."""
    assert entry_name("capio:", DIGEST) == b"capio:key:" + DIGEST.hex().encode()
    assert channel_name("capio:") == "capio:keys:changed"


def test_lifetimes_are_short_for_unknown_keys_only() -> None:
    """A key never seen is remembered shortly; known and deleted ones outlive an outage of SQL."""
    lifetimes = KeyLifetimes(3600, 30)

    assert lifetimes.of(KeyEntry(0, 0, None)) == 30_000
    assert lifetimes.of(KeyEntry(4, 0, None)) == (3600 + 86_400) * 1000
    assert lifetimes.of(KeyEntry(3, 0, PRINCIPAL)) == (3600 + 86_400) * 1000
