"""Let accounts be trusted: the worst case of their running calls is not bounded."""

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
