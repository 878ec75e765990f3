"""
Tables as CSV and JSON, streamed row by row.

Spreadsheets run cells that look like formulas, and names of keys, models and programs are chosen by
clients: such cells are quoted with an apostrophe.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec

Cell = str | int | float | bool | None
ExportRow = Sequence[Cell]

_ROWS_PER_CHUNK = 200
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+\Z")


def safe_cell(value: Cell) -> str:
    """Return a cell's text; one that a spreadsheet would run starts with an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if _DECIMAL.match(value):
        return value  # an amount, which may be negative
    # Spreadsheets skip leading spaces and controls, so these do not protect.
    shown = value.lstrip(" \x00\u00a0\ufeff")
    return f"'{value}" if shown[:1] in tuple("=+-@\t\r\n|%") and shown else value


def csv_lines(rows: Iterable[ExportRow]) -> str:
    """Return rows as CSV of RFC 4180."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerows([safe_cell(value) for value in row] for row in rows)
    return buffer.getvalue()


async def stream_csv(names: Sequence[str], rows: AsyncIterator[ExportRow]) -> AsyncIterator[bytes]:
    """Yield a CSV file in pieces. It starts with a mark, by which spreadsheets know UTF-8."""
    yield b"\xef\xbb\xbf" + csv_lines([names]).encode()
    async for batch in _batches(rows):
        yield csv_lines(batch).encode()


async def stream_json(names: Sequence[str], rows: AsyncIterator[ExportRow]) -> AsyncIterator[bytes]:
    """Yield a JSON array of objects in pieces."""
    separator = b"[\n"
    async for batch in _batches(rows):
        objects = [msgspec.json.encode(dict(zip(names, row, strict=True))) for row in batch]
        yield separator + b",\n".join(objects)
        separator = b",\n"
    yield b"[]\n" if separator == b"[\n" else b"\n]\n"


async def _batches(rows: AsyncIterator[ExportRow]) -> AsyncIterator[list[ExportRow]]:
    batch: list[ExportRow] = []
    async for row in rows:
        batch.append(row)
        if len(batch) >= _ROWS_PER_CHUNK:
            yield batch
            batch = []
    if batch:
        yield batch
