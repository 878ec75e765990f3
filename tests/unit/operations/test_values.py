"""Times that operators enter: spans and ISO dates, UTC."""

import datetime

import pytest

from gateway.operations.values import read_relative_time, show_time

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
    """What is neither a span nor a date is not guessed at."""
    with pytest.raises(ValueError):
        read_relative_time(text, NOW, 1)


def test_show_time_of_nothing_is_nothing() -> None:
    """A key without an expiry has none to show."""
    assert show_time(None) is None
