"""Add when an account was closed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add one column; no account is closed."""
    op.add_column("accounts", sa.Column("closed_at", sa.BigInteger))
