"""Reads amounts, times and texts that operators enter."""

from __future__ import annotations

import datetime
import re

from gateway.core import calendar
from gateway.core.money import read_dollars
from gateway.errors import ErrorKind, GatewayError

MAX_TEXT = 500  # characters of names, notes and reasons
_MAX_DIGITS = 15
_SPAN = re.compile(r"(\d{1,6})([mhdw])\Z")
_UNITS = {
    "m": datetime.timedelta(minutes=1),
    "h": datetime.timedelta(hours=1),
    "d": datetime.timedelta(days=1),
    "w": datetime.timedelta(weeks=1),
}


class InvalidValueError(GatewayError):
    """
    A value is missing, malformed or out of range.

    Args:
        param: The field or the option.
        problem: What is wrong, as a predicate of `param`: `must be a whole number`.
    """

    def __init__(self, param: str, problem: str) -> None:
        super().__init__(ErrorKind.BAD_REQUEST, f"'{param}' {problem}.", param=param)
        self.problem = problem


def is_number(text: str) -> bool:
    """Return whether `text` consists of ASCII digits only."""
    return text.isascii() and text.isdigit()


def read_time(text: str, param: str) -> int:
    """Return Unix seconds from digits, or from an ISO date or time (UTC by default)."""
    try:
        seconds = int(text[:_MAX_DIGITS]) if is_number(text) else calendar.read_time(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= calendar.LAST_SECOND:
        raise InvalidValueError(
            param, "must be a date like 2027-01-31, an ISO time, or Unix seconds"
        )
    return seconds


def read_relative_time(text: str, now: datetime.datetime, sign: int) -> int:
    """
    Return Unix seconds from a span like `30d`, or from an ISO date or time (UTC by default).

    Args:
        text: A number and `m`, `h`, `d` or `w`; or a date or time.
        now: Where spans begin.
        sign: 1 for spans into the future, -1 for spans into the past.

    Raises:
        ValueError: `text` is neither a span nor an ISO date or time.
    """
    span = _SPAN.match(text)
    if span is None:
        return calendar.read_time(text)
    try:
        return int((now + sign * int(span[1]) * _UNITS[span[2]]).timestamp())
    except OverflowError as error:
        raise ValueError(f"{text} from now is out of range") from error


def show_time(unix_s: int | None) -> str | None:
    """Return Unix seconds as `2027-01-31T12:00:00Z`; None stays None."""
    return None if unix_s is None else calendar.rfc3339(unix_s)


def check_expiry(unix_s: int | None, now: float, param: str = "expires_at") -> None:
    """Raise InvalidValueError if an expiry is not in the future; None never expires."""
    if unix_s is not None and unix_s <= now:
        raise InvalidValueError(param, "has already passed")


def read_text(text: str, param: str) -> str:
    """Return a name, note or reason without surrounding whitespace."""
    text = text.strip()
    if not text or len(text) > MAX_TEXT or not text.isprintable():
        raise InvalidValueError(param, f"must be 1 to {MAX_TEXT} printable characters")
    return text


def read_amount(amount: str | None, amount_nanousd: int | None, param: str) -> int | None:
    """
    Return an amount given as decimal dollars or as nano-dollars, or None if it is absent.

    Raises:
        InvalidValueError: Both are given, or `amount` is not a decimal number of dollars.
    """
    if amount is not None and amount_nanousd is not None:
        raise InvalidValueError(param, f"cannot be combined with '{param}_nanousd'")
    if amount is None:
        return amount_nanousd
    try:
        return read_dollars(amount)
    except ValueError as error:
        raise InvalidValueError(param, f"is invalid: {error}") from error


def require_amount(amount_nanousd: int | None, param: str = "amount") -> int:
    """Return an amount; raise InvalidValueError if it is absent."""
    if amount_nanousd is None:
        raise InvalidValueError(param, "is required")
    return amount_nanousd
