"""The form of redemption codes, and of money."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money import dollars, read_dollars
from gateway.store.accounts.codes import RANDOM_BITS, Code, code_digest, read_code, show_code


@given(st.integers(0, 2**RANDOM_BITS - 1))
def test_code_shown_can_be_read_however_it_is_typed(number: int) -> None:
    """Case, dashes and look-alikes do not matter."""
    shown = show_code(number)
    typed = f" {shown.lower().replace('-', ' ').replace('0', 'o').replace('1', 'l')}\n"

    assert len(shown) == 23
    assert read_code(shown) == shown.replace("-", "")
    assert read_code(typed) == read_code(shown)


def test_codes_of_different_numbers_differ() -> None:
    """Every bit of the number is in the code."""
    numbers = [0, *[1 << bit for bit in range(RANDOM_BITS)]]

    assert len({show_code(number) for number in numbers}) == len(numbers)
    assert show_code(0) == "00000-00000-00000-00000"


@pytest.mark.parametrize("text", ["", "0" * 19, "0" * 21, "U" * 20, "é" * 20, "0" * 18 + "!?"])
def test_text_that_cannot_be_a_code_is_none(text: str) -> None:
    """Length and alphabet are checked before anything is looked up."""
    assert read_code(text) is None


def test_code_digest_is_the_sha_256_of_its_digits() -> None:
    """The digest is that of the form without dashes."""
    assert code_digest("0" * 20) == hashlib.sha256(b"0" * 20).digest()


@pytest.mark.parametrize(
    ("times", "state"),
    [
        ({}, "open"),
        ({"expires_at": 101}, "open"),
        ({"expires_at": 100}, "expired"),
        ({"expires_at": 100, "revoked_at": 100}, "revoked"),
        ({"expires_at": 99, "redeemed_at": 98}, "redeemed"),
    ],
)
def test_code_has_one_state(times: dict[str, int], state: str) -> None:
    """A code is expired from its expiry on, unless it was redeemed or revoked before."""
    made = Code(
        id="code_1", last_four="0000", amount_nanousd=1, note=None, created_at=1, created_by="cli:x"
    )
    code = msgspec.structs.replace(made, **times)

    assert code.state(100) == state


@given(st.integers(-(10**18), 10**18))
def test_dollars_written_can_be_read_again_exactly(amount: int) -> None:
    """Writing and reading an amount returns the same number of nano-dollars."""
    assert read_dollars(dollars(amount)) == amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [("12", 12 * 10**9), ("12.5", 12_500_000_000), ("-0.000000001", -1), ("$5.00", 5 * 10**9)],
)
def test_dollars_are_read_as_people_write_them(text: str, amount: int) -> None:
    """With and without decimals, sign and currency."""
    assert read_dollars(text) == amount


@pytest.mark.parametrize(
    "text",
    ["", "1.", ".5", "1e3", "1,000", "0.0000000001", "--1", "NaN", "12345678901", "٣", "1 ", "$-1"],
)
def test_text_that_is_no_amount_is_refused(text: str) -> None:
    """Malformed amounts and more than nine decimals raise ValueError."""
    with pytest.raises(ValueError, match="is not an amount in dollars"):
        read_dollars(text)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        (10**9, "1.00"),
        (-1, "-0.000000001"),
        (1_500_000_000, "1.50"),
        (70, "0.00000007"),
    ],
)
def test_dollars_have_two_decimals_at_least(amount: int, text: str) -> None:
    """Further decimals are shown where they are needed."""
    assert dollars(amount) == text
