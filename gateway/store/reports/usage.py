"""
Sums of usage by time and one group, read from the sums by quarters of an hour.

Those by one property are read from the totals: an account whose 200,000 calls differ in everything
has 170,000 sums in a month, which take half a second, but 11,000 totals by model.

Times are quarters counted from 1970-01-01 UTC, so the days of any zone are exact.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from gateway.core.latency_histogram import quantile_ms
from gateway.core.model import TOKEN_COLUMNS
from gateway.store.sql.database import Database
from gateway.store.sql.tables import TTFT_COLUMNS, USAGE_EVENTS, USAGE_QUARTERS, USAGE_TOTALS
from gateway.store.usage_sums.totals import FAILED, PROPERTIES

MAX_ROWS = 50_000
"""Most rows of one report; further ones are omitted."""
_TOKENS = tuple(TOKEN_COLUMNS.values())


class SumsBy(enum.Enum):
    """The group of a row, besides its time. The value is the column."""

    MODEL = "model"
    KEY = "key_id"
    ENDPOINT = "endpoint"
    OUTCOME = "outcome"
    ACCOUNT = "account_id"
    DEPLOYMENT = "deployment"


class Run(NamedTuple):
    """
    Consecutive times of one width: the time of a quarter from `start` to before `end` is
    `first + (quarter - start) // width`.
    """

    start: int
    end: int
    first: int
    width: int


class SumsFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects sums. None: all."""

    account_id: str | None = None
    key_id: str | None = None
    model: str | None = None
    endpoint: str | None = None
    outcomes: tuple[str, ...] = ()


class UsageSum(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of some calls."""

    calls: int = 0
    failed: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cost_nanousd: int = 0
    upstream_cost_nanousd: int = 0
    margin_nanousd: int = 0
    calls_without_cost: int = 0
    ttft_counts: tuple[int, ...] = ()
    """The histogram of `core.latency_histogram`; empty unless it was requested."""

    def __add__(self, other: UsageSum) -> UsageSum:
        ours, theirs = self.ttft_counts, other.ttft_counts
        added = ours or theirs
        if ours and theirs:
            added = tuple(a + b for a, b in zip(ours, theirs, strict=True))
        return UsageSum(
            **{
                name: getattr(self, name) + getattr(other, name)
                for name in self.__struct_fields__
                if name != "ttft_counts"
            },
            ttft_counts=added,
        )

    def __sub__(self, other: UsageSum) -> UsageSum:
        names = self.__struct_fields__[:-1]
        return UsageSum(**{name: getattr(self, name) - getattr(other, name) for name in names})

    @property
    def prompt_tokens(self) -> int:
        """Input tokens of all classes."""
        return self.input + self.cache_read + self.cache_write

    @property
    def completion_tokens(self) -> int:
        """Output tokens, reasoning included."""
        return self.output + self.reasoning

    @property
    def tokens(self) -> int:
        """Tokens of all classes."""
        return self.prompt_tokens + self.completion_tokens

    def ttft_ms(self, fraction: float) -> int | None:
        """Return a quantile of the times to first token; None: there are none."""
        return quantile_ms(self.ttft_counts, fraction)


class SumRow(NamedTuple):
    """The sum of one time and group. `time` is an index as computed by the runs."""

    time: int
    group: str
    sum: UsageSum


class UsageSums:
    """Reads the sums. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(
        self,
        which: SumsFilter,
        runs: Sequence[Run],
        group: SumsBy | None = None,
        *,
        with_ttft: bool = False,
    ) -> list[SumRow]:
        """
        Return the sums by time and group, ordered by both, of the period that `runs` cover.

        Args:
            which: The calls.
            runs: In their order, without gaps; not empty.
            group: None: one group, the empty name.
            with_ttft: Read the histograms of times to first token, too.
        """
        async with self._database.read() as connection:
            rows = (await connection.execute(query(which, runs, group, with_ttft=with_ttft))).all()
        return [_row(tuple(row)) for row in rows if row[2]]

    async def last_call_ms(self, account_id: str | None = None) -> int | None:
        """Return when the last recorded call ended, in Unix milliseconds; None: there is none."""
        query = sa.select(sa.func.max(USAGE_EVENTS.c.at_ms))
        if account_id is not None:
            query = query.where(USAGE_EVENTS.c.account_id == account_id)
        async with self._database.read() as connection:
            found: int | None = await connection.scalar(query)
        return found


def query(
    which: SumsFilter, runs: Sequence[Run], group: SumsBy | None, *, with_ttft: bool = False
) -> sa.Select[Any]:
    """Return the statement of `UsageSums.read`: over the totals where they suffice."""
    single = _single_property(which, group)
    table = USAGE_QUARTERS if single is None else USAGE_TOTALS
    sums, conditions = table.c, _conditions(which, single)
    time = _time_of(sums.quarter, runs).label("by_time")
    column: sa.ColumnElement[Any] = sa.literal_column("''")
    if group is not None:
        is_value = single is not None and group is not SumsBy.ACCOUNT
        column = sums.value if is_value else sums[group.value]
    keys = (time, column.label("by_group"))
    steps = [sa.func.sum(sums[each]) for each in (TTFT_COLUMNS if with_ttft else ())]
    return (
        sa.select(*keys, *_columns(sums), *steps)
        .where(*conditions, sums.quarter >= runs[0].start, sums.quarter < runs[-1].end)
        .group_by(*keys[: 1 if group is None else 2])
        .order_by(*keys[: 1 if group is None else 2])
        .limit(MAX_ROWS)
    )


def total(rows: Sequence[SumRow]) -> UsageSum:
    """Return the sum of all rows."""
    return sum((row.sum for row in rows), UsageSum())


def _single_property(which: SumsFilter, group: SumsBy | None) -> str | None:
    """Return the property whose totals contain the sums wanted; None: they are in none."""
    used = [name for name, values in _wanted(which).items() if values]
    if group is not None and group is not SumsBy.ACCOUNT:
        used.append(group.value)
    # Any property contains all calls: outcomes have the fewest values.
    named = set(used) or {SumsBy.OUTCOME.value}
    [single, *others] = named
    return single if not others and single in PROPERTIES else None


def _columns(sums: ReadOnlyColumnCollection[str, sa.Column[Any]]) -> list[sa.ColumnElement[Any]]:
    failed = (
        sums.failed
        if "failed" in sums
        else sa.case((sums.outcome.in_(FAILED), sums.calls), else_=0)
    )
    names = ("cost_nanousd", "upstream_cost_nanousd", "margin_nanousd", "calls_without_cost")
    summed = [sums.calls, failed, *[sums[name] for name in (*_TOKENS, *names)]]
    return [sa.func.sum(each) for each in summed]


def _row(row: Sequence[Any]) -> SumRow:
    time, group = row[0], row[1]
    whole = [int(number or 0) for number in row[2:]]
    fields = UsageSum.__struct_fields__[:-1]
    plain = dict(zip(fields, whole, strict=False))
    return SumRow(int(time), str(group), UsageSum(**plain, ttft_counts=tuple(whole[len(fields) :])))


def _wanted(which: SumsFilter) -> dict[str, tuple[str, ...]]:
    """Return the values that a filter selects, by column; none: all."""
    single = {"key_id": which.key_id, "model": which.model, "endpoint": which.endpoint}
    wanted = {name: () if value is None else (value,) for name, value in single.items()}
    return {**wanted, "outcome": which.outcomes}


def _conditions(which: SumsFilter, single: str | None) -> list[sa.ColumnElement[bool]]:
    sums = (USAGE_QUARTERS if single is None else USAGE_TOTALS).c
    conditions = [] if which.account_id is None else [sums.account_id == which.account_id]
    if single is not None:
        conditions.append(USAGE_TOTALS.c.property == single)
    for name, values in _wanted(which).items():
        if name == SumsBy.OUTCOME.value and values == ("insured",) and single is None:
            # As in its index: a parameter would not match that.
            conditions.append(sa.text("outcome = 'insured'"))  # type: ignore[arg-type]
        elif values:
            column = sums[name] if single is None else USAGE_TOTALS.c.value
            conditions.append(column.in_(values))
    return conditions


def _time_of(quarter: sa.Column[Any], runs: Sequence[Run]) -> sa.ColumnElement[Any]:
    def index(run: Run) -> sa.ColumnElement[Any]:
        # Literals: a parameter in GROUP BY is another expression for PostgreSQL.
        return sa.literal_column(str(run.first)) + (
            quarter - sa.literal_column(str(run.start))
        ) // sa.literal_column(str(run.width))

    cases = [(quarter < sa.literal_column(str(run.end)), index(run)) for run in runs[:-1]]
    return sa.case(*cases, else_=index(runs[-1])) if cases else index(runs[-1])
