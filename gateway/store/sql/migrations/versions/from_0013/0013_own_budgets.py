"""Add the budgets that owners set for their account, and the notice of a low balance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add three columns; no account has either by default."""
    op.add_column("accounts", sa.Column("own_budgets", sa.Text))
    op.add_column("accounts", sa.Column("low_balance_nanousd", sa.BigInteger))
    op.add_column("accounts", sa.Column("low_balance_mailed_at", sa.BigInteger))
