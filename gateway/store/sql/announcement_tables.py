"""The tables of what operators tell users: incidents with their updates, and notices."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.sql.tables import METADATA

INCIDENTS = sa.Table(
    "incidents",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("models", sa.Text, nullable=False),
    sa.Column("began_at", sa.BigInteger, nullable=False),
    sa.Column("resolved_at", sa.BigInteger),
    sa.Index("ix_incidents_resolved_at", "resolved_at"),
)
"""`models` is a JSON array of names; empty: all. Ids sort by time."""

INCIDENT_UPDATES = sa.Table(
    "incident_updates",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("incident_id", sa.Text, sa.ForeignKey("incidents.id"), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.CheckConstraint(
        "state IN ('investigating', 'identified', 'monitoring', 'resolved')",
        name="ck_incident_updates_state",
    ),
    sa.Index("ix_incident_updates_incident_id", "incident_id", "id"),
)
"""What operators write about an incident, in order."""

NOTICES = sa.Table(
    "notices",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("starts_at", sa.BigInteger, nullable=False),
    sa.Column("ends_at", sa.BigInteger),
    sa.CheckConstraint("level IN ('info', 'warn')", name="ck_notices_level"),
    sa.Index("ix_notices_ends_at", "ends_at"),
)
"""Banners on every page between two times; without `ends_at` until they are ended."""
