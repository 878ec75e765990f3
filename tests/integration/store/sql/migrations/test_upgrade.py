"""Every earlier schema, with data in it, becomes today's and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gateway.settings import Settings
from gateway.store.accounts.accounts import Accounts, Billing
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.credits import Credits
from gateway.store.accounts.reconcile import reconcile
from gateway.store.accounts.snapshot import AccountRepository, SpendScope, Spent
from gateway.store.keys.repository import Keys
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate, upgrade, versions
from gateway.store.sql.people_tables import USERS
from gateway.store.usage.reports import UsageQueries
from gateway.store.usage.retention import purge_usage
from gateway.store.usage_sums.rebuild import rebuild_usage
from tests.support.booking import book_calls
from tests.support.usage import usage_event

DAY_MS = 86_400_000
_USAGE = (
    "INSERT INTO usage_events (request_id, at_ms, account_id, key_id, model, endpoint, client_wire,"
    " stream, status, outcome, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,"
    " reasoning_tokens, estimated, duration_ms, attempts{names}) VALUES ('req_1', 86400000,"
    " 'acct_1', 'key_1', 'm', 'messages', 'anthropic', true, 200, 'completed', 1, 2, 3, 4, 5,"
    " false, 9, 1{values})"
)
_OLD_DATA = {
    "0001": [
        "INSERT INTO accounts (id, name, created_at) VALUES ('acct_1', 'acme', 5)",
        "INSERT INTO api_keys (id, account_id, name, digest, prefix, last_four, state, version,"
        " models, created_at, changed_at) VALUES ('key_1', 'acct_1', 'ci', {digest}, 'sk-', 'abcd',"
        " 'active', 1, '[\"m\"]', 5, 5)",
        _USAGE.format(names="", values=""),
    ],
    "0002": [
        "INSERT INTO accounts (id, name, created_at, balance_nanousd)"
        " VALUES ('acct_2', 'paid', 5, 70)",
        "INSERT INTO ledger_entries (account_id, at_ms, kind, amount_nanousd,"
        " balance_after_nanousd, reason, actor) VALUES ('acct_2', 1, 'topup', 100, 100, 'x', 'x')",
        "INSERT INTO ledger_entries (account_id, at_ms, kind, amount_nanousd,"
        " balance_after_nanousd, request_id, actor)"
        " VALUES ('acct_2', 1, 'charge', -30, 70, 'req_2', 'gateway')",
        _USAGE.format(names=", cost_nanousd", values=", 30")
        .replace("'req_1'", "'req_2'")
        .replace("'acct_1'", "'acct_2'"),
    ],
    "0003": [
        "INSERT INTO accounts (id, name, created_at, balance_nanousd)"
        " VALUES ('acct_3', 'late', 5, -10)",
        "INSERT INTO ledger_entries (account_id, at_ms, kind, amount_nanousd,"
        " balance_after_nanousd, request_id, actor)"
        " VALUES ('acct_3', 1, 'charge', -10, -10, 'req_3', 'gateway')",
        "INSERT INTO spend (account_id, day, key_id, model, cost_nanousd)"
        " VALUES ('acct_3', 1, 'key_1', 'm', 10)",
        _USAGE.format(names=", cost_nanousd", values=", 10")
        .replace("'req_1'", "'req_3'")
        .replace("'acct_1'", "'acct_3'")
        .replace("'completed'", "'abandoned'"),
    ],
}
"""What a database of each revision holds, beside what those before it hold."""
REVISIONS = sorted(path.name[:4] for path in Path(versions.__path__[0]).rglob("0*.py"))
LAST = REVISIONS[-1]


async def fill(settings: Settings, revision: str) -> None:
    """Make a database of this revision, filling it at each step on the way."""
    database = Database(settings)
    digest = "X'" + "ab" * 32 + "'" if database.is_sqlite else "decode(repeat('ab', 32), 'hex')"
    for each, statements in _OLD_DATA.items():
        if each <= revision:
            async with database.write() as connection:
                await connection.run_sync(upgrade.run, [each])
                for statement in statements:
                    await connection.execute(sa.text(statement.format(digest=digest)))
    await database.aclose()


@pytest.mark.parametrize("revision", _OLD_DATA)
async def test_migrate_from_an_earlier_revision_keeps_its_data(
    sql_settings: Settings, revision: str
) -> None:
    """Keys, calls and balances are kept, and reconciliation finds no difference."""
    await fill(sql_settings, revision)

    ran = await migrate(sql_settings)
    database = Database(sql_settings)
    async with database.read() as connection:
        differences = await connection.run_sync(
            lambda c: compare_metadata(MigrationContext.configure(c), USERS.metadata)
        )
    account = await Accounts(database).get("acct_1")
    principal = await Keys(database, "sk-").load_by_digest(b"\xab" * 32)
    call = await UsageQueries(database).call("req_1")
    books = await reconcile(database)
    sums = await rebuild_usage(database, retention_days=90, now_ms=2 * DAY_MS)
    await database.aclose()

    assert (sums.quarters, sums.corrected) == (1, 0)
    assert ran[-1] == LAST
    assert list(ran) == [each for each in REVISIONS if each > revision]
    assert differences == []
    assert (account.name, account.balance_nanousd) == ("acme", 0)
    assert (account.terms.billing, account.terms.credit_limit_nanousd) == (Billing.POSTPAID, None)
    assert principal is not None
    assert (principal.models, principal.limits) == (frozenset({"m"}), None)
    assert call is not None
    assert (call.usage.output, call.cost_nanousd, call.upstream_cost_nanousd) == (4, 0, None)
    assert books.differences == []


async def test_migrate_sums_up_what_was_charged_before_budgets_were_kept(
    sql_settings: Settings,
) -> None:
    """Budgets count calls of before the migration."""
    await fill(sql_settings, "0002")
    await migrate(sql_settings)
    database = Database(sql_settings)

    state = await AccountRepository(database).load("acct_2", [SpendScope()], day=1, month=1970 * 12)
    await database.aclose()

    assert state is not None
    assert (state.balance_nanousd, state.spent[SpendScope()]) == (70, Spent(30, 30, 30))


async def test_charge_of_an_abandoned_call_of_before_the_migration_is_provisional(
    sql_settings: Settings,
) -> None:
    """A settlement corrects it, also when its row is purged by then; other charges are final."""
    await fill(sql_settings, "0003")
    await migrate(sql_settings)
    database = Database(sql_settings)
    await purge_usage(database, 2 * DAY_MS)

    late = [
        usage_event(f"req_{n}", account_id=f"acct_{n}", cost_nanousd=50, at_ms=DAY_MS)
        for n in (2, 3)
    ]
    await book_calls(database, *late)
    balances = [(await Accounts(database).get(f"acct_{n}")).balance_nanousd for n in (2, 3)]
    books = await reconcile(database)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        async with database.write() as connection:
            await connection.execute(sa.text("UPDATE ledger_entries SET provisional = true"))
    await database.aclose()

    assert balances == [70, -50]
    assert books.differences == []


async def test_account_made_by_an_older_program_after_a_rollback_is_prepaid(
    database: Database,
) -> None:
    """Columns that an old program does not know have safe defaults: nothing is given away."""
    async with database.write() as connection:
        await connection.execute(
            sa.text("INSERT INTO accounts (id, name, created_at) VALUES ('acct_1', 'a', 1)")
        )

    account = await Accounts(database).get("acct_1")
    booked = await Credits(database).topup("acct_1", 5, Actor("cli:tester"))

    assert (account.terms.billing, account.available_nanousd) == (Billing.PREPAID, 0)
    assert booked.entry.balance_after_nanousd == 5
