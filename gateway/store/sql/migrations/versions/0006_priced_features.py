"""Record the billed items of a call beyond its five classes of tokens."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add one-hour cache writes, web searches and the tier."""
    for column in (
        "cache_write_1h_tokens BIGINT NOT NULL DEFAULT 0",
        "web_searches BIGINT NOT NULL DEFAULT 0",
        "tier TEXT",
    ):
        op.execute(f"ALTER TABLE usage_events ADD COLUMN {column}")
