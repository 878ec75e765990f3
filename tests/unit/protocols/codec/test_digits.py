"""Decimal numbers in headers."""

from __future__ import annotations

import pytest

from gateway.protocols.codec.digits import read_digits


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 19, None),
        (b"", None),
        (b"1a", None),
        (b"-1", None),
        (b" 1", None),
        ("\N{SUPERSCRIPT TWO}".encode(), None),
    ],
)
def test_number_has_up_to_eighteen_ascii_digits(text: bytes, number: int | None) -> None:
    """Anything else is no number."""
    assert read_digits(text) == number
