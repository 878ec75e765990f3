"""The form of keys, their digest, and which header counts."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.api_keys import digest, display, mint, pick_key, well_formed

PREFIX = "sk-capio-live-"
ZEROS = "sk-capio-live-00000000000000000000000000000000000000000003G2loz"
ONES = "sk-capio-live-yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp10U4t2z"
VENDOR = b"sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNO"

random32 = st.binary(min_size=32, max_size=32)


def test_mint_known_bits_gives_known_keys() -> None:
    """The form never changes: keys made once stay good."""
    assert mint(bytes(32), PREFIX) == ZEROS
    assert mint(b"\xff" * 32, PREFIX) == ONES


@given(random32)
def test_mint_any_bits_is_well_formed(bits: bytes) -> None:
    """Every minted key has the form, as str and as bytes."""
    key = mint(bits, PREFIX)

    assert well_formed(key, PREFIX)
    assert well_formed(key.encode(), PREFIX)
    assert len(key) == len(PREFIX) + 49


@given(random32, random32)
def test_mint_different_bits_gives_different_keys(first: bytes, second: bytes) -> None:
    """No two values of the random bits share a key."""
    assert (mint(first, PREFIX) == mint(second, PREFIX)) == (first == second)


@pytest.mark.parametrize("bits", [b"", bytes(31), bytes(33)])
def test_mint_wrong_number_of_bits_raises(bits: bytes) -> None:
    """Fewer bits would be a weaker key, so there is none."""
    with pytest.raises(ValueError, match="32 random bytes"):
        mint(bits, PREFIX)


@given(random32, st.data())
def test_well_formed_one_character_changed_is_refused(bits: bytes, data: st.DataObject) -> None:
    """A typo at any position is detected."""
    key = mint(bits, PREFIX).encode()
    place = data.draw(st.integers(0, len(key) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != key[place]))

    assert not well_formed(key[:place] + bytes([byte]) + key[place + 1 :], PREFIX)


@given(random32, st.integers(0, 62))
def test_well_formed_cut_key_is_refused(bits: bytes, length: int) -> None:
    """A key that lost its end is noticed."""
    assert not well_formed(mint(bits, PREFIX)[:length], PREFIX)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_well_formed_noise_is_refused_without_raising(noise: bytes | str) -> None:
    """Arbitrary header values are rejected without an error."""
    assert not well_formed(noise, PREFIX)


@given(st.text(min_size=49, max_size=49))
def test_well_formed_any_text_behind_the_prefix_does_not_raise(tail: str) -> None:
    """Right prefix and length do not make a key of text, lone surrogates included."""
    assert not well_formed(PREFIX + tail, PREFIX)


@pytest.mark.parametrize("noise", [PREFIX + "\ud800" * 49, PREFIX + "é" * 49, ZEROS + "\n"])
def test_well_formed_text_outside_ascii_is_refused(noise: str) -> None:
    """Characters that are no base-62 digits never pass."""
    assert not well_formed(noise, PREFIX)


def test_well_formed_another_brand_is_refused() -> None:
    """The prefix is under the checksum: a key of another installation is not of our form."""
    assert not well_formed(mint(bytes(32), "sk-other-live-"), PREFIX)
    assert not well_formed(PREFIX + mint(bytes(32), "sk-other-live-")[14:], PREFIX)


def test_digest_is_sha256_of_the_text() -> None:
    """Digest of str and bytes are the same SHA-256."""
    assert digest(ZEROS) == digest(ZEROS.encode()) == hashlib.sha256(ZEROS.encode()).digest()


def test_display_shows_prefix_and_last_four() -> None:
    """Only the prefix and four characters are kept for show."""
    assert display(ONES) == (PREFIX, "4t2z")


OURS, OTHER_OURS = ZEROS.encode(), ONES.encode()


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "expected"),
    [
        (None, None, None),
        (b"", b"", None),
        (b"Bearer", None, None),
        (b"Bearer ", b"", None),
        (b"Bearer " + OURS, None, ZEROS),
        (b"bearer " + OURS, None, ZEROS),
        (b"BEARER   " + OURS + b" ", None, ZEROS),
        (b"Bearer\t" + OURS, None, ZEROS),
        (None, OURS, ZEROS),
        (None, b" " + OURS + b" ", ZEROS),
        (b"Bearer " + OURS, b"", ZEROS),
        (b"Bearer " + OURS, b"  ", ZEROS),
        (b"Bearer " + OURS, OURS, ZEROS),
        (b"Bearer " + VENDOR, OURS, ZEROS),
        (b"Bearer " + OURS, VENDOR, ZEROS),
        (b"Bearer " + OURS, OTHER_OURS, ZEROS),
        (b"Bearer one", b"two", "one"),
        (b"Bearer one", None, "one"),
        (b"Basic dXNlcjpwYXNz", None, None),
        (b"Basic dXNlcjpwYXNz", OURS, ZEROS),
        (OURS, None, None),
        (b"Bearer \xff\xfe", None, "\xff\xfe"),
    ],
)
def test_pick_key_headers_give_the_key_that_counts(
    authorization: bytes | None, x_api_key: bytes | None, expected: str | None
) -> None:
    """Either header will do; of two, the one of our form; else Bearer; empty counts as absent."""
    assert pick_key(authorization, x_api_key, PREFIX) == expected


@given(st.one_of(st.none(), st.binary(max_size=80)), st.one_of(st.none(), st.binary(max_size=80)))
def test_pick_key_any_bytes_does_not_raise(
    authorization: bytes | None, x_api_key: bytes | None
) -> None:
    """Hostile header bytes give a str or None, and what is given can be digested."""
    key = pick_key(authorization, x_api_key, PREFIX)

    assert key is None or len(digest(key)) == 32
