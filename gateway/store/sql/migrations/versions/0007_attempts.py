"""Record the attempts of a call if there were several, or if none succeeded."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the chain of attempts, as JSON."""
    op.execute("ALTER TABLE usage_events ADD COLUMN chain TEXT")
