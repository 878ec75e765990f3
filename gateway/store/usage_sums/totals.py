"""
Adds the changes of the sums by quarters to those by one property, which pages read.

They follow from the sums by quarters alone: `rebuild_totals` computes them again from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from gateway.store.sql.statements import Step, Steps, insert_or_add
from gateway.store.sql.tables import USAGE_QUARTERS, USAGE_TOTALS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM

PROPERTIES: Final = ("model", "key_id", "endpoint", "deployment", "outcome")
"""The columns of the sums by quarters that have totals."""
FAILED: Final = ("failed", "insured")
"""Outcomes of calls that failed."""
_KEY = tuple(column.name for column in USAGE_TOTALS.primary_key)
_NUMBERS = tuple(column.name for column in USAGE_TOTALS.c if column.name not in _KEY)
_SUMMED = tuple(name for name in _NUMBERS if name != "failed")
_COLUMNS = tuple(column.name for column in USAGE_QUARTERS.c)
_PLACES = tuple(map(_COLUMNS.index, _SUMMED))
_PROPERTY_PLACES = tuple((name, _COLUMNS.index(name)) for name in PROPERTIES)
_ACCOUNT, _QUARTER, _OUTCOME, _CALLS = map(
    _COLUMNS.index, ("account_id", "quarter", "outcome", "calls")
)
_ADD = insert_or_add(USAGE_TOTALS, (*_KEY, "failed", *_SUMMED), _NUMBERS)

Change = tuple[str | int, ...]
"""A change of the sums by quarters: all columns of their table."""


def add_to_totals(changes: Iterable[Change]) -> Steps[None]:
    """Add the changes to the totals of their properties: one statement."""
    totals = totals_of(changes)
    if totals:
        yield Step(_ADD, totals)


def totals_of(changes: Iterable[Change]) -> list[Change]:
    """Return the changes of the totals, in the order of their primary key."""
    sums: dict[tuple[str, str, int, str], list[int]] = {}
    for change in changes:
        numbers = [int(change[place]) for place in _PLACES]
        numbers.insert(0, int(change[_CALLS]) if change[_OUTCOME] in FAILED else 0)
        for name, place in _PROPERTY_PLACES:
            key = (str(change[_ACCOUNT]), name, int(change[_QUARTER]), str(change[place]))
            found = sums.get(key)
            if found is None:
                sums[key] = list(numbers)
            else:
                for n, number in enumerate(numbers):
                    found[n] += number
    return [(*key, *sums[key]) for key in sorted(sums)]


async def rebuild_totals(connection: AsyncConnection, start: int, end: int) -> None:
    """Compute the totals of the quarters from `start` to before `end` again."""
    totals, sums = USAGE_TOTALS.c, USAGE_QUARTERS.c
    await connection.execute(
        sa.delete(USAGE_TOTALS).where(
            totals.property.in_(PROPERTIES), totals.quarter >= start, totals.quarter < end
        )
    )
    failed = sa.case((sums.outcome.in_(FAILED), sums.calls), else_=0)
    numbers = [sa.func.sum(failed), *[sa.func.sum(sums[name]) for name in _SUMMED]]
    for name in PROPERTIES:
        keys = (sums.account_id, sums.quarter, sums[name])
        query = (
            sa.select(keys[0], sa.literal_column(f"'{name}'"), *keys[1:], *numbers)
            .where(sums.quarter >= start, sums.quarter < end)
            .group_by(*keys)
            .having(sa.or_(*[sa.func.sum(sums[each]) != 0 for each in _SUMMED]))
        )
        await connection.execute(
            sa.insert(USAGE_TOTALS).from_select([*_KEY, "failed", *_SUMMED], query)
        )
