"""Sum usage further by one property at a time, and fill the sums from those by quarters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_PROPERTIES = ("model", "key_id", "endpoint", "outcome")
_NUMBERS = (
    "calls", "failed", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_nanousd", "upstream_cost_nanousd", "margin_nanousd",
    "calls_without_cost",
)  # fmt: skip
_STEPS = tuple(f"ttft_{step:02}" for step in range(24))


def upgrade() -> None:
    """Create one table with an index, and fill it."""
    op.create_table(
        "usage_totals",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("property", sa.Text, primary_key=True),
        sa.Column("quarter", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("value", sa.Text, primary_key=True),
        *[sa.Column(name, sa.BigInteger, nullable=False) for name in _NUMBERS],
        *[sa.Column(name, sa.Integer, nullable=False) for name in _STEPS],
        sqlite_with_rowid=False,
    )
    for name in _PROPERTIES:
        op.execute(_fill(name))
    op.create_index("ix_usage_totals_quarter", "usage_totals", ["quarter"])


def _fill(name: str) -> str:
    numbers = (*_NUMBERS, *_STEPS)
    failed = "SUM(CASE WHEN outcome IN ('failed', 'insured') THEN calls ELSE 0 END)"
    sums = ", ".join(failed if each == "failed" else f"SUM({each})" for each in numbers)
    columns = ", ".join(("account_id", "property", "quarter", "value", *numbers))
    # Built from the names above only.
    return (
        f"INSERT INTO usage_totals ({columns})"  # noqa: S608
        f" SELECT account_id, '{name}', quarter, {name}, {sums}"
        f" FROM usage_quarters GROUP BY account_id, quarter, {name}"
    )
