"""Rates the health of models by their recent attempts, and sums their calls by day."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import sqlalchemy as sa

from gateway.core.calendar import DAY_MS, rfc3339
from gateway.store.health.minutes import OF_CLIENTS, DeploymentReport
from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_QUARTERS

DEGRADED_ABOVE: Final = 0.05
DOWN_ABOVE: Final = 0.5
SLOWER: Final = 3
"""A model is degraded if its p95 exceeds the usual one by this factor."""
FEWEST: Final = 5
"""Minimum number of attempts to judge the time to first token by."""
QUARTERS_A_DAY: Final = 96
_FAILED: Final = ("failed", "insured")
_DAY_S: Final = DAY_MS // 1000


class ModelState(enum.Enum):
    """The state of a model. The value is used in `/status.json`."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"
    IDLE = "no calls"
    UNKNOWN = "unknown"


class ModelHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The recent attempts of a model."""

    name: str
    title: str
    state: ModelState
    attempts: int = 0
    failed: int = 0
    ttft_p50_ms: int | None = None
    ttft_p95_ms: int | None = None


class Day(msgspec.Struct, frozen=True):
    """The calls of one UTC day."""

    date: str
    calls: int
    failed: int

    @property
    def level(self) -> str:
        """The colour of its bar: none, ok, warn or bad."""
        if not self.calls:
            return "none"
        share = self.failed / self.calls
        return "bad" if share > DOWN_ABOVE else "warn" if share > DEGRADED_ABOVE else "ok"


def judge(
    name: str,
    title: str,
    labels: Sequence[str],
    recent: Mapping[str, DeploymentReport] | None,
    usual: Mapping[str, DeploymentReport] | None,
) -> ModelHealth:
    """
    Return the state of a model: that of its best deployment, since calls fall back to it.

    Args:
        name: Of the model.
        title: Name of the model on pages.
        labels: Its deployments.
        recent: Reports of the last minutes; None: Redis did not respond.
        usual: Reports of a longer time, with which times are compared.
    """
    if recent is None or usual is None:
        return ModelHealth(name=name, title=title, state=ModelState.UNKNOWN)
    reports = [recent[label] for label in labels if label in recent]
    used = [each for each in reports if counted(each)]
    if not used:
        return ModelHealth(name=name, title=title, state=ModelState.IDLE)
    best = min(used, key=lambda each: failures(each) / counted(each))
    share = failures(best) / counted(best)
    state = ModelState.OK
    if share > DOWN_ABOVE:
        state = ModelState.DOWN
    elif share > DEGRADED_ABOVE or _is_slow(best, usual.get(best.deployment)):
        state = ModelState.DEGRADED
    return ModelHealth(
        name=name,
        title=title,
        state=state,
        attempts=sum(map(counted, used)),
        failed=sum(map(failures, used)),
        ttft_p50_ms=best.ttft_p50_ms,
        ttft_p95_ms=best.ttft_p95_ms,
    )


def failures(report: DeploymentReport) -> int:
    """Return the number of failed attempts, without those that the request caused."""
    return sum(count for kind, count in report.failures.items() if kind not in OF_CLIENTS)


def counted(report: DeploymentReport) -> int:
    """Return the number of attempts, without failures that the request caused."""
    return report.ok + failures(report)


def _is_slow(report: DeploymentReport, usual: DeploymentReport | None) -> bool:
    if usual is None or report.ttft_p95_ms is None or usual.ttft_p95_ms is None:
        return False
    enough = counted(report) >= FEWEST
    return enough and report.ttft_p95_ms > SLOWER * usual.ttft_p95_ms


async def read_days(
    database: Database, models: Sequence[str], now: int, days: int
) -> dict[str, tuple[Day, ...]]:
    """
    Return the calls of each model by UTC day, oldest first, including days without calls.

    Raises:
        GatewayError: STORE_UNAVAILABLE.
    """
    today = now // _DAY_S
    first = today - days + 1
    column = USAGE_QUARTERS.c
    day = column.quarter // sa.literal_column(str(QUARTERS_A_DAY))
    failed = sa.case((column.outcome.in_(_FAILED), column.calls), else_=0)
    query = (
        sa.select(column.model, day.label("day"), sa.func.sum(column.calls), sa.func.sum(failed))
        .where(column.quarter >= first * QUARTERS_A_DAY, column.model.in_(models))
        .group_by(column.model, day)
    )
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    found = {(row[0], int(row[1])): (int(row[2]), int(row[3])) for row in rows}
    return {
        name: tuple(
            Day(rfc3339(at * _DAY_S)[:10], *found.get((name, at), (0, 0)))
            for at in range(first, today + 1)
        )
        for name in models
    }
