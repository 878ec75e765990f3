"""Dollars as integers of a billionth, read from text and written as text, exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money import decimal_text, dollars, nanousd, read_dollars, usd


@pytest.mark.parametrize(
    ("price", "amount"),
    [
        ("0", 0),
        ("0.07", 70_000_000),
        ("15", 15_000_000_000),
        ("0.000000001", 1),
        ("999999.999999999", 999_999_999_999_999),
    ],
)
def test_nanousd_is_exact(price: str, amount: int) -> None:
    """Dollars become integers without a float in between."""
    assert nanousd(price) == amount


@given(st.integers(min_value=0, max_value=10**15 - 1))
def test_nanousd_of_any_written_amount_is_that_amount(amount: int) -> None:
    """Nine decimals hold every amount that the price pattern admits."""
    assert nanousd(f"{amount // 10**9}.{amount % 10**9:09d}") == amount


@pytest.mark.parametrize("price", ["", ".5", "5.", "-1", "1e3", "1.0000000001", "٣", "1.2.3", "+1"])
def test_nanousd_of_no_decimal_is_refused(price: str) -> None:
    """Exponents, signs and separators are errors."""
    with pytest.raises(ValueError, match="decimal"):
        nanousd(price)


@pytest.mark.parametrize(
    ("units", "decimals", "at_least", "text"),
    [
        (0, 9, 2, "0.00"),
        (0, 9, 0, "0"),
        (70_000_000, 9, 2, "0.07"),
        (2_000_000_000, 9, 2, "2.00"),
        (2_000_000_000, 9, 0, "2"),
        (50_000_000, 9, 0, "0.05"),
        (140_000_000, 15, 0, "0.00000014"),
        (1, 15, 2, "0.000000000000001"),
        (-1_500_000_000, 9, 2, "-1.50"),
        (-1, 9, 2, "-0.000000001"),
    ],
)
def test_decimal_text_is_exact(units: int, decimals: int, at_least: int, text: str) -> None:
    """Zeros at the end go, down to the least number of decimals."""
    assert decimal_text(units, decimals, at_least) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(12_340_000_000, "$12.34"), (0, "$0.00"), (18_308_000, "$0.018308"), (-50_000_000, "-$0.05")],
)
def test_usd_has_its_sign_before_the_dollar(amount: int, text: str) -> None:
    """At least cents, and more decimals if the amount has them."""
    assert usd(amount) == text


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_dollars_read_back_are_the_amount(amount: int) -> None:
    """No amount within the bounds of a balance changes on its way through text."""
    assert read_dollars(dollars(amount)) == amount
