"""Sum usage by deployment, too, and index the sums for pages about all accounts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_NUMBERS = (
    "calls", "failed", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_nanousd", "upstream_cost_nanousd", "margin_nanousd",
    "calls_without_cost", *(f"ttft_{step:02}" for step in range(24)),
)  # fmt: skip


def upgrade() -> None:
    """Fill the totals of deployments, and replace an index."""
    failed = "SUM(CASE WHEN outcome IN ('failed', 'insured') THEN calls ELSE 0 END)"
    sums = ", ".join(failed if each == "failed" else f"SUM({each})" for each in _NUMBERS)
    columns = ", ".join(("account_id", "property", "quarter", "value", *_NUMBERS))
    # Built from the names above only.
    op.execute(
        f"INSERT INTO usage_totals ({columns})"  # noqa: S608
        f" SELECT account_id, 'deployment', quarter, deployment, {sums}"
        " FROM usage_quarters GROUP BY account_id, quarter, deployment"
    )
    op.create_index("ix_usage_totals_property", "usage_totals", ["property", "quarter"])
    op.drop_index("ix_usage_totals_quarter", "usage_totals")
    insured = sa.text("outcome = 'insured'")
    op.create_index(
        "ix_usage_quarters_insured",
        "usage_quarters",
        ["quarter"],
        sqlite_where=insured,
        postgresql_where=insured,
    )
