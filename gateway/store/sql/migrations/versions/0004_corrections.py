"""Let the ledger correct the charge of a call that is settled late."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_AMOUNT = (
    "(kind IN ('topup', 'code', 'refund') AND amount_nanousd > 0)"
    " OR (kind = 'charge' AND amount_nanousd < 0)"
    " OR (kind IN ('adjustment', 'correction') AND amount_nanousd <> 0)"
)
_REQUEST_ID = "(kind IN ('charge', 'correction', 'refund')) = (request_id IS NOT NULL)"
_REVISION = "(kind = 'correction') = (revision > 0) AND revision >= 0"
_CHECKS = (
    ("ck_ledger_entries_amount", _AMOUNT),
    ("ck_ledger_entries_request_id", _REQUEST_ID),
    ("ck_ledger_entries_revision", _REVISION),
)
_COLUMNS = (
    "id, account_id, at_ms, kind, amount_nanousd, balance_after_nanousd, request_id,"
    " idempotency_key, reason, actor"
)
_WAS_ABANDONED = (
    "kind = 'charge' AND request_id IN"
    " (SELECT request_id FROM usage_events WHERE outcome = 'abandoned')"
)


def upgrade() -> None:
    """
    Add two columns, and mark the charges of abandoned calls as provisional.

    A charge whose usage row has been purged counts as final.
    """
    if op.get_bind().dialect.name == "sqlite":
        _rebuild()
    else:
        _alter()


def _alter() -> None:
    op.execute(
        "ALTER TABLE ledger_entries ADD COLUMN provisional BOOLEAN NOT NULL DEFAULT false,"
        " ADD COLUMN revision BIGINT NOT NULL DEFAULT 0"
    )
    op.execute("ALTER TABLE ledger_entries DISABLE TRIGGER ledger_entries_append_only")
    op.execute(f"UPDATE ledger_entries SET provisional = true WHERE {_WAS_ABANDONED}")  # noqa: S608 -- constants
    op.execute("ALTER TABLE ledger_entries ENABLE TRIGGER ledger_entries_append_only")
    op.execute("ALTER TABLE ledger_entries DROP CONSTRAINT ck_ledger_entries_amount")
    op.execute("ALTER TABLE ledger_entries DROP CONSTRAINT ck_ledger_entries_request_id")
    for name, check in _CHECKS:
        op.execute(f"ALTER TABLE ledger_entries ADD CONSTRAINT {name} CHECK ({check})")
    op.execute("DROP INDEX uq_ledger_entries_request_id")
    _index_request_id()


def _rebuild() -> None:
    """Copy the table: SQLite cannot change the checks of an existing one."""
    op.create_table(
        "ledger_entries_new",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
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
        *[sa.CheckConstraint(check, name=name) for name, check in _CHECKS],
        sqlite_autoincrement=True,
    )
    op.execute(
        f"INSERT INTO ledger_entries_new ({_COLUMNS}, provisional)"  # noqa: S608 -- constants
        f" SELECT {_COLUMNS}, ({_WAS_ABANDONED}) FROM ledger_entries ORDER BY id"
    )
    op.drop_table("ledger_entries")
    op.execute("ALTER TABLE ledger_entries_new RENAME TO ledger_entries")
    op.create_index("ix_ledger_entries_account_id", "ledger_entries", ["account_id", "id"])
    op.create_index(
        "uq_ledger_entries_idempotency_key",
        "ledger_entries",
        ["idempotency_key"],
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL"),
    )
    _index_request_id()
    for action in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER ledger_entries_no_{action.lower()} BEFORE {action} ON ledger_entries"
            " BEGIN SELECT RAISE(ABORT, 'ledger_entries is append-only'); END"
        )


def _index_request_id() -> None:
    where = sa.text("request_id IS NOT NULL")
    op.create_index(
        "uq_ledger_entries_request_id",
        "ledger_entries",
        ["request_id", "kind", "revision"],
        unique=True,
        sqlite_where=where,
        postgresql_where=where,
    )
