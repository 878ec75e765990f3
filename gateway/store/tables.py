"""
The SQL tables as SQLAlchemy sees them. `migrations/versions` makes them; a test compares the two.

Times are integers: Unix seconds, or milliseconds where the name ends in `_ms`. Ids are text.
"""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()

ACCOUNTS = sa.Table(
    "accounts",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)
"""Who pays."""

API_KEYS = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("prefix", sa.Text, nullable=False),
    sa.Column("last_four", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("models", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.CheckConstraint("length(digest) = 32", name="ck_api_keys_digest"),
    sa.CheckConstraint("state IN ('active', 'disabled', 'revoked')", name="ck_api_keys_state"),
    sa.Index("ix_api_keys_account_id", "account_id"),
)
"""Virtual keys: the SHA-256 of a key, never the key. `models` is a JSON array, NULL means all."""

USAGE_EVENTS = sa.Table(
    "usage_events",
    METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("account_id", sa.Text, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("client_wire", sa.Text, nullable=False),
    sa.Column("upstream_wire", sa.Text),
    sa.Column("provider", sa.Text),
    sa.Column("upstream_model", sa.Text),
    sa.Column("upstream_request_id", sa.Text),
    sa.Column("stream", sa.Boolean, nullable=False),
    sa.Column("status", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("error_kind", sa.Text),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_read_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
    sa.Column("estimated", sa.Boolean, nullable=False),
    sa.Column("finish_reason", sa.Text),
    sa.Column("ttft_ms", sa.BigInteger),
    sa.Column("duration_ms", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sa.Column("address", sa.Text),
    sa.Column("user_agent", sa.Text),
    sa.Index("ix_usage_events_at_ms", "at_ms"),
    sa.Index("ix_usage_events_account_id_at_ms", "account_id", "at_ms"),
    sa.Index("ix_usage_events_key_id_at_ms", "key_id", "at_ms"),
)
"""
One row a call, kept for `sql.usage_retention_days`.

No foreign keys: a call that was served is recorded even when its account's row is gone.
"""
