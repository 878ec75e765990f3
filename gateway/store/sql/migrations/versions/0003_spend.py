"""Keep what each key has spent, by model and day, after the calls themselves are purged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create one table and fill it from the recorded calls."""
    op.create_table(
        "spend",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("cost_nanousd", sa.BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO spend (account_id, day, key_id, model, cost_nanousd)"
        " SELECT account_id, at_ms / 86400000, key_id, model, SUM(cost_nanousd)"
        " FROM usage_events WHERE cost_nanousd > 0"
        " GROUP BY account_id, at_ms / 86400000, key_id, model"
    )
