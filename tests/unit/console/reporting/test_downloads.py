"""Tables as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console.reporting.downloads import (
    Cell,
    ExportRow,
    csv_lines,
    safe_cell,
    stream_csv,
    stream_json,
)

NAMES = ["model", "calls", "cost_usd", "is_stream"]


async def rows(count: int) -> AsyncIterator[ExportRow]:
    """Yield rows."""
    for n in range(count):
        yield [f"m{n}", n, "0.01", n % 2 == 0]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"), ("+49", "'+49"),
        ("-0.05", "-0.05"), ("-1.0=2", "'-1.0=2"), ("-1.5\n", "'-1.5\n"),
        ("-1", "'-1"), ("@sum", "'@sum"),
        ("  =1", "'  =1"), ("\t=1", "'\t=1"), ("\r=1", "'\r=1"), ("\u00a0=1", "'\u00a0=1"),
        ("plain", "plain"), ("", ""), (" ", " "), (-5, "-5"), (None, ""), (True, "true"),
    ],
)  # fmt: skip
def test_cell_that_a_spreadsheet_would_run_is_quoted(value: Cell, shown: str) -> None:
    """Texts only: numbers may be negative. A leading space does not help."""
    assert safe_cell(value) == shown


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1))
def test_csv_reads_back_as_the_cells_that_were_written(cells: list[str]) -> None:
    """Quotes, commas and line ends stay in their cells."""
    text = csv_lines([cells])

    assert text.endswith("\r\n")
    [found] = csv.reader(io.StringIO(text, newline=""))
    assert found == [safe_cell(cell) for cell in cells]


async def test_csv_is_streamed_with_a_mark_and_a_header() -> None:
    """In pieces that do not grow with the table."""
    pieces = [piece async for piece in stream_csv(NAMES, rows(450))]

    assert pieces[0] == b"\xef\xbb\xbfmodel,calls,cost_usd,is_stream\r\n"
    assert [piece.count(b"\r\n") for piece in pieces[1:]] == [200, 200, 50]
    assert pieces[1].startswith(b"m0,0,0.01,true\r\nm1,1,0.01,false\r\n")


@pytest.mark.parametrize("count", [0, 1, 200, 450])
async def test_json_is_one_array(count: int) -> None:
    """Of objects with the names of the columns; texts are not changed."""
    text = b"".join([piece async for piece in stream_json(NAMES, rows(count))])

    found = json.loads(text)
    assert len(found) == count
    assert count == 0 or found[0] == {
        "model": "m0", "calls": 0, "cost_usd": "0.01", "is_stream": True,
    }  # fmt: skip
