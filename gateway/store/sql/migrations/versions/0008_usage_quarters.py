"""Keep sums of usage by quarters of an hour; find failed calls and credits by indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_GROUPS = ("account_id", "quarter", "key_id", "model", "endpoint", "deployment", "outcome")
_NUMBERS = (
    "calls", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_nanousd", "upstream_cost_nanousd", "margin_nanousd",
    "calls_without_cost", "ttft_ms", "ttft_calls",
)  # fmt: skip
_BOUNDS_MS = (
    25, 35, 50, 71, 100, 141, 200, 283, 400, 566, 800, 1131, 1600, 2263, 3200, 4525, 6400, 9051,
    12_800, 18_102, 25_600, 36_204, 51_200,
)  # fmt: skip
_STEPS = tuple(f"ttft_{step:02}" for step in range(len(_BOUNDS_MS) + 1))


def upgrade() -> None:
    """Create one table, fill it from the recorded calls, and create three indexes."""
    op.create_table(
        "usage_quarters",
        *[
            sa.Column(
                name,
                sa.BigInteger if name == "quarter" else sa.Text,
                primary_key=True,
                autoincrement=False,
            )
            for name in _GROUPS
        ],
        *[sa.Column(name, sa.BigInteger, nullable=False) for name in _NUMBERS],
        *[sa.Column(name, sa.Integer, nullable=False) for name in _STEPS],
        sqlite_with_rowid=False,
    )
    op.execute(_fill())
    op.create_index("ix_usage_quarters_quarter", "usage_quarters", ["quarter"])
    failed = sa.text("outcome IN ('failed', 'insured')")
    op.create_index(
        "ix_usage_events_failed",
        "usage_events",
        ["account_id", "at_ms"],
        sqlite_where=failed,
        postgresql_where=failed,
    )
    movements = sa.text("kind NOT IN ('charge', 'correction')")
    op.create_index(
        "ix_ledger_entries_movements",
        "ledger_entries",
        ["account_id", "id"],
        sqlite_where=movements,
        postgresql_where=movements,
    )


def _fill() -> str:
    tokens = ", ".join(f"SUM({name})" for name in _NUMBERS[1:6])
    lows, highs = (None, *_BOUNDS_MS), (*_BOUNDS_MS, None)
    steps = ", ".join(
        f"COUNT(CASE WHEN ttft_ms IS NOT NULL"
        f"{f' AND ttft_ms >= {low}' if low else ''}{f' AND ttft_ms < {high}' if high else ''}"
        " THEN 1 END)"
        for low, high in zip(lows, highs, strict=True)
    )
    groups = (
        "account_id, at_ms / 900000, key_id, model, endpoint,"
        " COALESCE(provider || '/' || upstream_model, ''), outcome"
    )
    columns = ", ".join((*_GROUPS, *_NUMBERS, *_STEPS))
    sums = (
        f"COUNT(*), {tokens}, SUM(cost_nanousd), COALESCE(SUM(upstream_cost_nanousd), 0),"
        " COALESCE(SUM(cost_nanousd - upstream_cost_nanousd), 0),"
        " SUM(CASE WHEN upstream_cost_nanousd IS NULL THEN 1 ELSE 0 END),"
        f" COALESCE(SUM(ttft_ms), 0), COUNT(ttft_ms), {steps}"
    )
    # Built from the names above only.
    select = f"SELECT {groups}, {sums} FROM usage_events GROUP BY {groups}"  # noqa: S608
    return f"INSERT INTO usage_quarters ({columns}) {select}"
