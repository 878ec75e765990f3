"""Add trusted accounts, whose running calls have no bound on their worst-case cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add one column; accounts are not trusted by default."""
    op.add_column(
        "accounts", sa.Column("trusted", sa.Boolean, nullable=False, server_default=sa.false())
    )
