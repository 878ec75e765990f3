"""The tables of the providers and models in SQL, and of single values of the whole service."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.sql.tables import METADATA

CATALOGUE_ENTRIES = sa.Table(
    "catalogue_entries",
    METADATA,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.CheckConstraint("kind IN ('provider', 'model')", name="ck_catalogue_entries_kind"),
)
"""`body` is a JSON object with the settings of a table of the configuration file."""

SERVICE_VALUES = sa.Table(
    "service_values",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""
`catalogue_revision` changes with each change of `catalogue_entries`; `installation_id` never.
"""
