"""
Adds calls to the sums by quarters of an hour, in the transaction that books their usage rows.

The sums of a quarter are those of its usage rows, as long as these exist. A settlement of an
abandoned call subtracts the row that it replaces. If that row was purged, its call is part of older
sums, and only the difference of the costs is added, so that the sums agree with the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.core.latency_histogram import step_of
from gateway.core.model import TOKEN_COLUMNS
from gateway.store.sql.statements import Step, Steps, insert_or_add
from gateway.store.sql.tables import TTFT_COLUMNS, USAGE_QUARTERS
from gateway.store.usage_sums.totals import add_to_totals

QUARTER_MS = 900_000
GROUPS = tuple(column.name for column in USAGE_QUARTERS.primary_key)
NUMBERS = tuple(column.name for column in USAGE_QUARTERS.c if column.name not in GROUPS)
_TOKENS = tuple(TOKEN_COLUMNS.values())
_FIRST_STEP = NUMBERS.index(TTFT_COLUMNS[0])
_COST = NUMBERS.index("cost_nanousd")
_ADD = insert_or_add(USAGE_QUARTERS, (*GROUPS, *NUMBERS), NUMBERS)

UsageRow = Mapping[str, Any]
"""A usage row: column name -> value."""

Group = tuple[str, int, str, str, str, str, str]
"""The values of GROUPS."""


class BookedRow(NamedTuple):
    """A row that was booked, and what was booked for its call before."""

    row: UsageRow
    before: UsageRow | None
    """The usage row that it replaced."""
    was_charged: bool = False
    due_nanousd: int = 0
    """The difference to the earlier charge of its call."""


def add_to_quarters(booked: Iterable[BookedRow]) -> Steps[None]:
    """Add the rows to their quarters and the totals: one statement each."""
    changes = sum_up(booked)
    if changes:
        yield Step(_ADD, changes)
        yield from add_to_totals(changes)


def sum_up(booked: Iterable[BookedRow]) -> list[tuple[str | int, ...]]:
    """
    Return the changes of the sums, by GROUPS and NUMBERS.

    They are in the order of their groups, so that two writers do not deadlock.
    """
    sums: dict[Group, list[int]] = {}
    for row, before, was_charged, due_nanousd in booked:
        if before is None and was_charged:
            _sums_of(sums, row)[_COST] += due_nanousd
            continue
        if before is not None:
            _add(_sums_of(sums, before), before, -1)
        _add(_sums_of(sums, row), row, 1)
    return [(*group, *sums[group]) for group in sorted(sums) if any(sums[group])]


def group_of(row: UsageRow) -> Group:
    """Return the group that counts a usage row."""
    provider, name = row["provider"], row["upstream_model"]
    return (
        str(row["account_id"]),
        int(row["at_ms"] or 0) // QUARTER_MS,
        str(row["key_id"]),
        str(row["model"]),
        str(row["endpoint"]),
        "" if provider is None or name is None else f"{provider}/{name}",
        str(row["outcome"]),
    )


def _sums_of(sums: dict[Group, list[int]], row: UsageRow) -> list[int]:
    group = group_of(row)
    found = sums.get(group)
    if found is None:
        found = sums[group] = [0] * len(NUMBERS)
    return found


def _add(sums: list[int], row: UsageRow, sign: int) -> None:
    """Add the numbers of one row; see NUMBERS for their order."""
    cost = int(row["cost_nanousd"] or 0)
    upstream_cost, ttft_ms = row["upstream_cost_nanousd"], row["ttft_ms"]
    sums[0] += sign
    for place, name in enumerate(_TOKENS, 1):
        sums[place] += sign * int(row[name] or 0)
    sums[_COST] += sign * cost
    if upstream_cost is None:
        sums[_COST + 3] += sign
    else:
        sums[_COST + 1] += sign * int(upstream_cost)
        sums[_COST + 2] += sign * (cost - int(upstream_cost))
    if ttft_ms is not None:
        sums[_COST + 4] += sign * int(ttft_ms)
        sums[_COST + 5] += sign
        sums[_FIRST_STEP + step_of(int(ttft_ms))] += sign


def numbers_of(values: Sequence[Any]) -> tuple[int, ...]:
    """Return the summed NUMBERS of a result row as plain integers; NULL is 0."""
    return tuple(int(value or 0) for value in values)
