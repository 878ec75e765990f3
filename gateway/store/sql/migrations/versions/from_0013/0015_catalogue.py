"""Add providers and models in SQL, and single values of the service."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Create two tables; there is no entry yet."""
    op.create_table(
        "catalogue_entries",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("kind IN ('provider', 'model')", name="ck_catalogue_entries_kind"),
    )
    values = op.create_table(
        "service_values",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.bulk_insert(values, [{"name": "catalogue_revision", "value": ""}])
