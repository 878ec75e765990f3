"""Add the id of the installation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.sql.ids import new_id

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Choose an id; copies of the database have the same."""
    values = sa.table("service_values", sa.column("name"), sa.column("value"))
    op.bulk_insert(values, [{"name": "installation_id", "value": new_id("inst")}])
