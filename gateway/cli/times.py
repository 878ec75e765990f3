"""Points in time as people write them on a command line."""

from __future__ import annotations

import datetime
import re
from typing import Literal

import click

from gateway.core.calendar import read_time, rfc3339

_SPAN = re.compile(r"(\d{1,6})([mhdw])\Z")
_UNITS = {
    "m": datetime.timedelta(minutes=1),
    "h": datetime.timedelta(hours=1),
    "d": datetime.timedelta(days=1),
    "w": datetime.timedelta(weeks=1),
}


class Instant(click.ParamType[int]):
    """
    Unix seconds from a span (`30d`, `12h`, `90m`, `2w`) or an ISO date or time, by default UTC.

    Args:
        direction: Whether a span counts from now into the `future` or into the `past`.
    """

    name = "time"

    def __init__(self, direction: Literal["future", "past"]) -> None:
        self._sign = 1 if direction == "future" else -1

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return Unix seconds, or end with a usage error."""
        if isinstance(value, int):
            return value
        now = datetime.datetime.now(datetime.UTC)
        try:
            seconds = read_instant(str(value), now, self._sign)
        except ValueError:
            self.fail(
                f"{value!r} is not a span like 30d or 12h, nor a date like 2027-01-31", param, ctx
            )
        if self._sign > 0 and seconds <= now.timestamp():
            self.fail(f"{value!r} has passed already", param, ctx)
        return seconds


def read_instant(text: str, now: datetime.datetime, sign: int) -> int:
    """
    Return Unix seconds; `sign` is the direction in which spans count from `now`.

    Raises:
        ValueError: It is neither a span nor an ISO date or time.
    """
    span = _SPAN.match(text)
    if span:
        try:
            return int((now + sign * int(span[1]) * _UNITS[span[2]]).timestamp())
        except OverflowError as failure:
            raise ValueError(f"{text} from now is beyond the calendar") from failure
    return read_time(text)


def optional_time(seconds: int | None) -> str | None:
    """Return Unix seconds as `2027-01-31T12:00:00Z`; None stays None."""
    return None if seconds is None else rfc3339(seconds)
