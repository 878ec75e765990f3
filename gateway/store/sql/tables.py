"""
The SQL tables. `migrations/versions` creates them; a test compares the two.

Times are integers: Unix seconds, or milliseconds where the name ends in `_ms`. Ids are text or
ascending numbers. Money is in nano-dollars, `_nanousd`.
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.core.latency_histogram import STEPS

METADATA = sa.MetaData()

_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite supports autoincrement for columns of type INTEGER only."""

ACCOUNTS = sa.Table(
    "accounts",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("billing", sa.Text, nullable=False, server_default="prepaid"),
    sa.Column("credit_limit_nanousd", sa.BigInteger),
    sa.Column("balance_nanousd", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("limits", sa.Text),
    sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("trusted", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("own_budgets", sa.Text),
    sa.Column("low_balance_nanousd", sa.BigInteger),
    sa.Column("low_balance_mailed_at", sa.BigInteger),
    sa.Column("closed_at", sa.BigInteger),
    sa.CheckConstraint("billing IN ('prepaid', 'postpaid')", name="ck_accounts_billing"),
    sa.CheckConstraint("credit_limit_nanousd >= 0", name="ck_accounts_credit_limit"),
)
"""
Accounts. `balance_nanousd` is the sum of the account's ledger entries, updated together with them.

A prepaid account may spend its balance; a postpaid one also `credit_limit_nanousd` beyond it, NULL
meaning unlimited. `limits` is JSON, NULL means none; `version` is incremented by every change but
those of the balance. The running calls of a trusted account are not bounded by its credit.

`limits` are the operator's; `own_budgets` are those that its owners set, JSON too: the lower of two
budgets counts. A balance below `low_balance_nanousd` is pointed out; `low_balance_mailed_at` is
when its owners got a mail about that, NULL once the balance is above it again. A closed account has
no people and only revoked keys; its row stays for the ledger.
"""

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
    sa.Column("limits", sa.Text),
    sa.Column("origin", sa.Text, nullable=False, server_default="user"),
    sa.Column("created_by", sa.Text),
    sa.CheckConstraint("length(digest) = 32", name="ck_api_keys_digest"),
    sa.CheckConstraint("state IN ('active', 'disabled', 'revoked')", name="ck_api_keys_state"),
    sa.Index("ix_api_keys_account_id", "account_id"),
)
"""
Virtual keys, stored as SHA-256 only. `models` is a JSON array, NULL means all. `origin` is `user`,
or `playground` for keys that a page created for itself.
"""

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
    sa.Column("cost_nanousd", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("upstream_cost_nanousd", sa.BigInteger),
    sa.Column("cache_write_1h_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("web_searches", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("tier", sa.Text),
    sa.Column("chain", sa.Text),
    sa.Index("ix_usage_events_at_ms", "at_ms"),
    sa.Index("ix_usage_events_account_id_at_ms", "account_id", "at_ms"),
    sa.Index("ix_usage_events_key_id_at_ms", "key_id", "at_ms"),
    sa.Index(
        "ix_usage_events_failed",
        "account_id",
        "at_ms",
        sqlite_where=sa.text("outcome IN ('failed', 'insured')"),
        postgresql_where=sa.text("outcome IN ('failed', 'insured')"),
    ),
)
"""
One row per call, kept for `sql.usage_retention_days`. `chain` is a JSON array of attempts;
NULL: the only one succeeded.

No foreign keys: a served call is recorded even if its account's row no longer exists.
"""

NOT_CHARGES = "kind NOT IN ('charge', 'correction')"
"""Entries that are not about the cost of a call: few, and with an index of their own."""

LEDGER_ENTRIES = sa.Table(
    "ledger_entries",
    METADATA,
    sa.Column("id", _COUNTER, primary_key=True, autoincrement=True),
    sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("amount_nanousd", sa.BigInteger, nullable=False),
    sa.Column("balance_after_nanousd", sa.BigInteger, nullable=False),
    sa.Column("request_id", sa.Text),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("provisional", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint(
        "(kind IN ('topup', 'code', 'refund') AND amount_nanousd > 0)"
        " OR (kind = 'charge' AND amount_nanousd < 0)"
        " OR (kind IN ('adjustment', 'correction') AND amount_nanousd <> 0)",
        name="ck_ledger_entries_amount",
    ),
    sa.CheckConstraint(
        "(kind IN ('charge', 'correction', 'refund')) = (request_id IS NOT NULL)",
        name="ck_ledger_entries_request_id",
    ),
    sa.CheckConstraint(
        "(kind = 'correction') = (revision > 0) AND revision >= 0",
        name="ck_ledger_entries_revision",
    ),
    sa.Index("ix_ledger_entries_account_id", "account_id", "id"),
    sa.Index(
        "ix_ledger_entries_movements",
        "account_id",
        "id",
        sqlite_where=sa.text(NOT_CHARGES),
        postgresql_where=sa.text(NOT_CHARGES),
    ),
    sa.Index(
        "uq_ledger_entries_request_id",
        "request_id",
        "kind",
        "revision",
        unique=True,
        sqlite_where=sa.text("request_id IS NOT NULL"),
        postgresql_where=sa.text("request_id IS NOT NULL"),
    ),
    sa.Index(
        "uq_ledger_entries_idempotency_key",
        "idempotency_key",
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL"),
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)
"""
All movements of money, kept forever: append-only, enforced by triggers.

In the order of `id`, each entry of an account leads from one `balance_after_nanousd` to the next.
`at_ms` is when the entry was booked. A call has at most one `charge` and one `refund`; its
`correction`s are numbered by `revision` from 1, all other entries have 0. A `charge` or
`correction` of an abandoned call is `provisional`: a later settlement may correct it.
"""

SPEND = sa.Table(
    "spend",
    METADATA,
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("cost_nanousd", sa.BigInteger, nullable=False),
)
"""
The charges of an account, summed for budgets by UTC day of the calls' end (counted from
1970-01-01), key and model. Updated with the ledger; kept when usage events are purged.
"""

TTFT_COLUMNS = tuple(f"ttft_{step:02}" for step in range(STEPS))
"""The columns of the histogram of times to first token, see `core.latency_histogram`."""

USAGE_QUARTERS = sa.Table(
    "usage_quarters",
    METADATA,
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("quarter", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("endpoint", sa.Text, primary_key=True),
    sa.Column("deployment", sa.Text, primary_key=True),
    sa.Column("outcome", sa.Text, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_read_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost_nanousd", sa.BigInteger, nullable=False),
    sa.Column("upstream_cost_nanousd", sa.BigInteger, nullable=False),
    sa.Column("margin_nanousd", sa.BigInteger, nullable=False),
    sa.Column("calls_without_cost", sa.BigInteger, nullable=False),
    sa.Column("ttft_ms", sa.BigInteger, nullable=False),
    sa.Column("ttft_calls", sa.BigInteger, nullable=False),
    *[sa.Column(name, sa.Integer, nullable=False) for name in TTFT_COLUMNS],
    sa.Index("ix_usage_quarters_quarter", "quarter"),
    sa.Index(
        "ix_usage_quarters_insured",
        "quarter",
        sqlite_where=sa.text("outcome = 'insured'"),
        postgresql_where=sa.text("outcome = 'insured'"),
    ),
    sqlite_with_rowid=False,
)
"""
The usage events summed by account, quarter of an hour (counted from 1970-01-01 UTC), key, model,
endpoint, deployment and outcome. Every zone's offset is a multiple of a quarter of an hour, so days
and months of any zone are exact. Updated with the usage events; kept for 13 months, longer than
they are, since the sums have no address and no user agent.

`deployment` is empty if no upstream was called. `upstream_cost_nanousd` and `margin_nanousd` are
those of calls with a known upstream price; `calls_without_cost` counts the others. `ttft_ms` is the
sum of the times to first token of `ttft_calls` calls.
"""

USAGE_TOTALS = sa.Table(
    "usage_totals",
    METADATA,
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("property", sa.Text, primary_key=True),
    sa.Column("quarter", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_read_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost_nanousd", sa.BigInteger, nullable=False),
    sa.Column("upstream_cost_nanousd", sa.BigInteger, nullable=False),
    sa.Column("margin_nanousd", sa.BigInteger, nullable=False),
    sa.Column("calls_without_cost", sa.BigInteger, nullable=False),
    *[sa.Column(name, sa.Integer, nullable=False) for name in TTFT_COLUMNS],
    sa.Index("ix_usage_totals_property", "property", "quarter"),
    sqlite_with_rowid=False,
)
"""
`usage_quarters` summed further, by one property at a time: `model`, `key_id`, `endpoint`,
`deployment` or `outcome`, with its value. An account whose calls differ in all of them has many
rows there, and few here, which is what pages read. Updated and kept as those; `failed` counts calls
that failed.
"""

CODES = sa.Table(
    "codes",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("last_four", sa.Text, nullable=False),
    sa.Column("amount_nanousd", sa.BigInteger, nullable=False),
    sa.Column("note", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
    sa.Column("redeemed_at", sa.BigInteger),
    sa.Column("redeemed_by", sa.Text, sa.ForeignKey("accounts.id")),
    sa.CheckConstraint("length(digest) = 32", name="ck_codes_digest"),
    sa.CheckConstraint("amount_nanousd > 0", name="ck_codes_amount"),
    sa.CheckConstraint(
        "(redeemed_at IS NULL) = (redeemed_by IS NULL)"
        " AND (redeemed_at IS NULL OR revoked_at IS NULL)",
        name="ck_codes_end",
    ),
)
"""Redemption codes, stored as SHA-256 only. `redeemed_by` is an account id."""

AUDIT_LOG = sa.Table(
    "audit_log",
    METADATA,
    sa.Column("id", _COUNTER, primary_key=True, autoincrement=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("address", sa.Text),
    sa.Index("ix_audit_log_object", "object", "id"),
    sqlite_autoincrement=True,
)
"""Changes and their actors; `before` and `after` are JSON without secrets. Append-only."""
