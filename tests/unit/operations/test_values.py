"""Times, texts and amounts that operators enter."""

import datetime

import pytest

from gateway.operations.values import (
    InvalidValueError,
    check_expiry,
    is_number,
    read_amount,
    read_relative_time,
    read_text,
    read_time,
    require_amount,
    show_time,
)

NOW = datetime.datetime(2026, 11, 22, 12, 0, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "sign", "moment"),
    [
        ("30d", 1, "2026-12-22T12:00:00Z"),
        ("12h", -1, "2026-11-22T00:00:00Z"),
        ("90m", 1, "2026-11-22T13:30:00Z"),
        ("2w", -1, "2026-11-08T12:00:00Z"),
        ("2027-01-31", 1, "2027-01-31T00:00:00Z"),
        ("2027-01-31T12:30:00", -1, "2027-01-31T12:30:00Z"),
        ("2027-01-31T12:30:00Z", 1, "2027-01-31T12:30:00Z"),
        ("2027-01-31T12:30:00+02:00", 1, "2027-01-31T10:30:00Z"),
    ],
)
def test_instant_is_read_in_utc(text: str, sign: int, moment: str) -> None:
    """A span counts from now in its direction; a date without a zone is UTC."""
    assert show_time(read_relative_time(text, NOW, sign)) == moment


@pytest.mark.parametrize(
    "text", ["", "30", "30y", "d", "-3d", "tomorrow", "2027-13-01", "9999999d", "999999w"]
)
def test_instant_of_anything_else_is_refused(text: str) -> None:
    """Text that is neither a span nor a date raises ValueError."""
    with pytest.raises(ValueError):
        read_relative_time(text, NOW, 1)


def test_show_time_of_nothing_is_nothing() -> None:
    """None stays None."""
    assert show_time(None) is None


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("0", 0),
        ("1970-01-01", 0),
        ("253402300799", 253_402_300_799),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
        ("2027-01-31T12:00:00+02:00", 1_801_389_600),
    ],
)
def test_time_is_read_from_digits_or_iso_text(text: str, unix_s: int) -> None:
    """The range is from 1970 to the last second of the year 9999."""
    assert read_time(text, "from") == unix_s


@pytest.mark.parametrize(
    "text", ["", "-1", "253402300800", "1" * 400, "\u00b2", "1969-12-31", "2027-02-30", "soon"]
)
def test_time_out_of_range_names_the_parameter(text: str) -> None:
    """Times before 1970 or after 9999 and text that is no time are refused."""
    with pytest.raises(InvalidValueError) as caught:
        read_time(text, "from")

    assert caught.value.param == "from"


def test_number_has_ascii_digits_only() -> None:
    """Digits of other scripts, signs and the empty text are no number."""
    assert is_number("0123456789")
    assert not any(is_number(text) for text in ("", "-1", "+1", "1.0", "\u00b2", "\u0663"))


def test_expiry_is_in_the_future() -> None:
    """The present second has already passed; no expiry is accepted."""
    check_expiry(None, 1000.0)
    check_expiry(1001, 1000.0)
    for passed in (999, 1000):
        with pytest.raises(InvalidValueError, match="'expires_at' has already passed"):
            check_expiry(passed, 1000.0)


def test_text_has_at_most_500_printable_characters() -> None:
    """Whitespace around a text is removed before it is measured."""
    assert read_text("  a reason\n", "reason") == "a reason"
    assert read_text(" " + "n" * 500 + " ", "name") == "n" * 500
    for wrong in ("", " \n", "n" * 501, "a\tb", "a\x00"):
        with pytest.raises(InvalidValueError, match="'name' must be 1 to 500 printable"):
            read_text(wrong, "name")


def test_amount_is_read_from_one_of_two_fields() -> None:
    """Decimal dollars or nano-dollars, never both; zero is an amount."""
    assert read_amount("12.50", None, "amount") == 12_500_000_000
    assert read_amount(None, 7, "amount") == 7
    assert read_amount(None, None, "amount") is None
    for dollars, nanousd in (("1", 1_000_000_000), ("0", 0), ("one", None)):
        with pytest.raises(InvalidValueError) as caught:
            read_amount(dollars, nanousd, "amount")
        assert caught.value.param == "amount"


def test_amount_that_is_required_may_be_zero() -> None:
    """Only a missing amount is refused here; its range depends on the operation."""
    assert require_amount(0) == 0
    with pytest.raises(InvalidValueError, match="'amount' is required"):
        require_amount(None)
