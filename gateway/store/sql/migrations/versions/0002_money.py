"""Give accounts a balance and its ledger, keys and accounts limits, calls their cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_APPEND_ONLY = ("ledger_entries", "audit_log")


def upgrade() -> None:
    """
    Add columns and three tables.

    Existing accounts were served without a balance: they become postpaid without a limit. New ones
    are prepaid by default.
    """
    for column in (
        "billing TEXT NOT NULL DEFAULT 'prepaid'"
        " CONSTRAINT ck_accounts_billing CHECK (billing IN ('prepaid', 'postpaid'))",
        "credit_limit_nanousd BIGINT"
        " CONSTRAINT ck_accounts_credit_limit CHECK (credit_limit_nanousd >= 0)",
        "balance_nanousd BIGINT NOT NULL DEFAULT 0",
        "limits TEXT",
        "version BIGINT NOT NULL DEFAULT 1",
    ):
        op.execute(f"ALTER TABLE accounts ADD COLUMN {column}")
    op.execute("UPDATE accounts SET billing = 'postpaid'")
    op.execute("ALTER TABLE api_keys ADD COLUMN limits TEXT")
    op.execute("ALTER TABLE usage_events ADD COLUMN cost_nanousd BIGINT NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE usage_events ADD COLUMN upstream_cost_nanousd BIGINT")
    _make_ledger()
    _make_codes()
    _make_audit_log()
    for table in _APPEND_ONLY:
        _only_append(table)


def _make_ledger() -> None:
    op.create_table(
        "ledger_entries",
        sa.Column("id", _counter(), primary_key=True, autoincrement=True),
        sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount_nanousd", sa.BigInteger, nullable=False),
        sa.Column("balance_after_nanousd", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("actor", sa.Text, nullable=False),
        sa.CheckConstraint(
            "(kind IN ('topup', 'code', 'refund') AND amount_nanousd > 0)"
            " OR (kind = 'charge' AND amount_nanousd < 0)"
            " OR (kind = 'adjustment' AND amount_nanousd <> 0)",
            name="ck_ledger_entries_amount",
        ),
        sa.CheckConstraint(
            "(kind IN ('charge', 'refund')) = (request_id IS NOT NULL)",
            name="ck_ledger_entries_request_id",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_ledger_entries_account_id", "ledger_entries", ["account_id", "id"])
    for column, columns in (
        ("request_id", ["request_id", "kind"]),
        ("idempotency_key", ["idempotency_key"]),
    ):
        op.create_index(
            f"uq_ledger_entries_{column}",
            "ledger_entries",
            columns,
            unique=True,
            sqlite_where=sa.text(f"{column} IS NOT NULL"),
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )


def _make_codes() -> None:
    op.create_table(
        "codes",
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


def _make_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", _counter(), primary_key=True, autoincrement=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.Column("address", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_log_object", "audit_log", ["object", "id"])


def _counter() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _only_append(table: str) -> None:
    """Have the database reject changes and deletions of rows."""
    if op.get_bind().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN RAISE EXCEPTION '{table} is append-only' USING ERRCODE = '23001'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()"
    )
