"""Numbers, money, times and texts as pages show them."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from gateway.core.money import dollars

LONGEST_CELL = 200
MONEY_DECIMALS = 9
DAY_FORM = "%b %-d, %Y"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def money(nanousd: int) -> str:
    """Return an amount with as many digits as needed, at least two decimals: `$0.018308`."""
    sign = "\N{MINUS SIGN}" if nanousd < 0 else ""
    return sign + in_dollars(dollars(abs(nanousd)))


def in_dollars(decimal: str) -> str:
    """Return a decimal with the dollar sign and separators: `$1,234.5`."""
    whole, _, decimals = decimal.partition(".")
    return f"${int(whole):,}.{decimals}"


def padding(nanousd: int | None) -> str:
    """Return the zeros that `money` leaves out: unseen, they align a column at its points."""
    if nanousd is None:
        return ""
    shown = dollars(abs(nanousd)).partition(".")[2]
    return "0" * (MONEY_DECIMALS - len(shown))


def number(value: float) -> str:
    """Return a number with separators: `41,208`."""
    return f"{value:,}"


def cut(text: str, length: int = LONGEST_CELL) -> str:
    """Return a text of at most `length` characters, with an ellipsis if it was longer."""
    return text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def moment(unix_s: int, zone: str = "UTC") -> str:
    """Return a time in a zone: `2027-02-26 14:59`."""
    return _at(unix_s, zone).strftime("%Y-%m-%d %H:%M")


def day(unix_s: int, zone: str = "UTC", text: Callable[[str], str] = str) -> str:
    """Return a date in a zone: `Feb 26, 2027`. `text` translates the form."""
    return _at(unix_s, zone).strftime(text(DAY_FORM))


def utc(unix_s: int) -> str:
    """Return a time in UTC as ISO 8601, for `title` and `datetime` attributes."""
    return _at(unix_s, "UTC").strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(unix_s: int, now_s: int, text: Callable[[str], str] = str) -> str:
    """Return how long ago a time was: `2 min ago`; a date after 30 days. `text` translates."""
    passed = now_s - unix_s
    if passed < _MINUTE:
        return text("just now")
    if passed < _HOUR:
        return text("%(num)s min ago") % {"num": passed // _MINUTE}
    if passed < _DAY:
        return text("%(num)s h ago") % {"num": passed // _HOUR}
    if passed < 2 * _DAY:
        return text("yesterday")
    if passed < 30 * _DAY:
        return text("%(num)s days ago") % {"num": passed // _DAY}
    return day(unix_s, text=text)


UNKNOWN_BROWSER = "Unknown browser"
_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"))
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def browser_of(user_agent: str) -> str:
    """Return the family and system of a browser: `Firefox on Linux`."""
    family = next((name for part, name in _BROWSERS if part in user_agent), None)
    if family is None:
        family = "Safari" if "Safari/" in user_agent else UNKNOWN_BROWSER
    system = next((name for part, name in _SYSTEMS if part in user_agent), None)
    return family if system is None else f"{family} on {system}"


def browser_name(found: str, text: Callable[[str], str] = str) -> str:
    """Return what `browser_of` found in the language of `text`."""
    family, _, system = found.partition(" on ")
    if not system:
        return text(family)
    return text("%(family)s on %(system)s") % {"family": text(family), "system": system}


def _at(unix_s: int, zone: str) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(unix_s, ZoneInfo(zone))


FILTERS: dict[str, Callable[..., Any]] = {
    "cut": cut,
    "moment": moment,
    "money": money,
    "number": number,
    "padding": padding,
    "utc": utc,
}
