"""Lists of accounts, keys, codes and users for operators."""

from __future__ import annotations

import asyncio

import pytest

from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.codes import CodeDetails, Codes
from gateway.store.accounts.credits import Credits
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.people.users import Users
from gateway.store.reports.directory import AccountsQuery, AccountState, Directory, KeysQuery
from gateway.store.sql.database import Database
from tests.support.booking import book_calls
from tests.support.reports import statements
from tests.support.usage import NOON_MS, usage_event

BY = Actor("cli:tester")
QUARTER = NOON_MS // 900_000


async def ids(directory: Directory, **which: object) -> list[str]:
    """Return the names of the accounts that a query finds."""
    found = await directory.accounts(AccountsQuery(**which), limit=50)  # type: ignore[arg-type]
    return [line.account.name for line in found]


async def test_accounts_are_found_by_name_key_and_state(database: Database) -> None:
    """Newest first, with what their calls came to since a time; `%` is no wildcard."""
    accounts, directory = Accounts(database), Directory(database)
    first = await accounts.create("100% Real")
    await asyncio.sleep(0.002)  # ids of one millisecond have no order
    second = await accounts.create("Beta")
    key = (await Keys(database, "sk-").create(first.id, KeyDetails(name="k"))).row
    await Credits(database).topup(first.id, 1000, BY, reason="paid")
    await Credits(database).adjust(second.id, -5, BY, reason="fee", idempotency_key=None)
    await book_calls(
        database,
        usage_event("req_1", account_id=first.id, key_id=key.id, cost_nanousd=70,
                    upstream_cost_nanousd=30),
        usage_event("req_2", account_id=first.id, key_id=key.id, cost_nanousd=9,
                    at_ms=NOON_MS - 3_600_000),
    )  # fmt: skip

    with statements(database) as ran:
        lines = await directory.accounts(AccountsQuery(since_quarter=QUARTER), limit=50)

    assert len(ran) == 2
    assert [(line.account.id, line.keys, line.cost_nanousd, line.margin_nanousd)
            for line in lines] == [(second.id, 0, 0, 0), (first.id, 1, 70, 40)]  # fmt: skip
    assert [line.last_call_ms for line in lines] == [None, NOON_MS]
    assert await ids(directory, text="0% r") == ["100% Real"]
    assert await ids(directory, text="0_") == []
    assert await ids(directory, text=f"sk-…{key.last_four}") == ["100% Real"]
    assert await ids(directory, text=second.id) == ["Beta"]
    assert await ids(directory, account_id=first.id) == ["100% Real"]
    assert await ids(directory, state=AccountState.NEGATIVE) == ["Beta"]
    assert await ids(directory, state=AccountState.IDLE, since_quarter=QUARTER) == ["Beta"]
    older = await directory.accounts(AccountsQuery(), before=second.id, limit=50)
    assert [line.account.id for line in older] == [first.id]


async def test_keys_are_found_by_their_digest_and_their_end(database: Database) -> None:
    """With the name of the account; a digest finds one key only."""
    account = await Accounts(database).create("Acme")
    keys, directory = Keys(database, "sk-"), Directory(database)
    first = await keys.create(account.id, KeyDetails(name="laptop"))
    await asyncio.sleep(0.002)
    second = await keys.create(account.id, KeyDetails(name="ci"))
    await keys.revoke(second.row.id, by=BY)

    async def found(**which: object) -> list[str]:
        query = KeysQuery(**which)  # type: ignore[arg-type]
        return [line.row.name for line in await directory.keys(query, limit=50)]

    assert await found() == ["ci", "laptop"]
    assert await found(digest=first.change.digest) == ["laptop"]
    assert await found(digest=b"\0" * 32) == []
    assert await found(text="LAP") == ["laptop"]
    assert await found(text=second.row.id) == ["ci"]
    assert await found(text=account.id) == ["ci", "laptop"]
    assert await found(state="revoked") == ["ci"]
    names = await directory.key_names([first.row.id, "key_unknown"])
    assert {key: tuple(each) for key, each in names.items()} == {
        first.row.id: ("laptop", account.id, "Acme")
    }


@pytest.mark.parametrize(
    ("state", "notes"),
    [
        ("", ["gone", "late", "spent", "fresh"]),
        ("open", ["fresh"]),
        ("redeemed", ["spent"]),
        ("expired", ["late"]),
        ("revoked", ["gone"]),
    ],
)
async def test_codes_are_listed_by_state(database: Database, state: str, notes: list[str]) -> None:
    """The states are those of `Code.state`."""
    codes = Codes(database)
    account = await Accounts(database).create("Acme")
    made = {}
    for note in ("fresh", "spent", "late", "gone"):
        expires_at = 100 if note == "late" else None
        details = CodeDetails(amount_nanousd=10**9, note=note, expires_at=expires_at)
        (made[note],) = await codes.create(details, BY)
    await codes.redeem(made["spent"].raw, account.id, BY)
    await codes.revoke(made["gone"].code.id, BY)

    found = await Directory(database).codes(state, 200, limit=50)
    by_end = await Directory(database).codes("", 200, text=made["late"].raw, limit=50)

    # Codes of one millisecond have no order.
    assert sorted(each.note or "" for each in found) == sorted(notes)
    assert {each.state(200) for each in found} <= {state} or not state
    assert [each.note for each in by_end] == ["late"]


async def test_people_are_found_by_their_names(database: Database) -> None:
    """With the number of their accounts."""
    users, directory = Users(database), Directory(database)
    ada = await users.create("ada@example.com", "Ada Lovelace", is_operator=True)
    await users.create("grace@example.com", "Grace")
    account = await Accounts(database).create("Acme")
    await users.join(ada.id, account.id, "owner", BY)

    lines = await directory.people("LOVE", limit=50)

    assert [(each.user.id, each.accounts, each.sessions) for each in lines] == [(ada.id, 1, 0)]
    assert not lines[0].has_second_factor
    assert len(await directory.people("example.com", limit=50)) == 2
