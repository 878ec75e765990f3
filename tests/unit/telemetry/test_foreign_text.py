"""Texts of clients and upstreams, as they are recorded."""

import pytest

from gateway.telemetry.foreign_text import MAX_FOREIGN_TEXT, recordable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("test/1", "test/1"),
        ("a\x00b\nc\x1b[2J\ud800", "abc[2J"),
        ("\x00\n", None),
        ("a" * 500, "a" * MAX_FOREIGN_TEXT),
    ],
)
def test_recordable_is_short_and_printable(text: str | None, expected: str | None) -> None:
    """Nothing that a database refuses or a terminal obeys."""
    assert recordable(text) == expected
