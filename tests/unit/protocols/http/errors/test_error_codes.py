"""The table of error codes; that each is read is tested in `test_provider_errors`."""

from __future__ import annotations

import re

import pytest

from gateway.protocols.http.errors.error_codes import (
    ERROR_CODES,
    MINIMAX_CODES,
    NAMES,
    ErrorCodes,
    FaultClass,
)


@pytest.mark.parametrize("line", ERROR_CODES)
def test_each_line_has_source_and_date(line: ErrorCodes) -> None:
    assert line.codes
    assert len(line.source) > 5
    assert re.fullmatch(r"20\d\d-\d\d", line.seen)


def test_no_code_has_two_meanings() -> None:
    """Except MiniMax's numbers, which are read in their own place."""
    codes = [code for line in ERROR_CODES for code in line.codes]

    assert len(codes) == len(NAMES) + len(MINIMAX_CODES)
    assert (NAMES["1002"], MINIMAX_CODES["1002"]) == (
        FaultClass.CREDENTIAL,
        FaultClass.RATE_LIMITED,
    )
