"""Redemption codes: made once, shown once, worth something once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.operations.records import CodeOperations
from gateway.operations.values import InvalidValueError
from gateway.store.accounts.accounts import Account, Accounts, UnknownAccountError
from gateway.store.accounts.audit import Actor, AuditLog
from gateway.store.accounts.codes import (
    CodeDetails,
    Codes,
    CodeSpentError,
    NewCode,
    UnknownCodeError,
    read_code,
)
from gateway.store.accounts.credits import AmountError, Credits, EntryKind
from gateway.store.sql.database import Database
from gateway.store.sql.tables import CODES

BY = Actor("cli:tester")
DOLLAR = 1_000_000_000


@pytest.fixture
async def account(database: Database) -> Account:
    return await Accounts(database).create("acme")


async def make(database: Database, expires_at: int | None = None) -> NewCode:
    details = CodeDetails(amount_nanousd=5 * DOLLAR, note="launch", expires_at=expires_at)
    (made,) = await Codes(database).create(details, BY)
    return made


async def test_code_redeemed_adds_its_amount_once(database: Database, account: Account) -> None:
    """The first time books the amount, every further time is refused."""
    made = await make(database)
    codes = Codes(database)

    entry = await codes.redeem(made.raw.lower().replace("-", " "), account.id, Actor("key:key_1"))

    assert (entry.kind, entry.amount_nanousd, entry.balance_after_nanousd, entry.reason) == (
        EntryKind.CODE, 5 * DOLLAR, 5 * DOLLAR, made.code.id,
    )  # fmt: skip
    with pytest.raises(CodeSpentError, match="redeemed"):
        await codes.redeem(made.raw, account.id, BY)
    (listed,) = await codes.list()
    assert (listed.redeemed_by, listed.state(time.time())) == (account.id, "redeemed")
    assert (await Accounts(database).get(account.id)).balance_nanousd == 5 * DOLLAR


async def test_code_redeemed_by_many_at_once_pays_once(
    database: Database, account: Account
) -> None:
    """Of twenty that try at the same moment one wins."""
    made = await make(database)
    other = await Accounts(database).create("other")

    attempts = [Codes(database).redeem(made.raw, (account, other)[n % 2].id, BY) for n in range(20)]
    answers = await asyncio.gather(*attempts, return_exceptions=True)

    refused = [answer for answer in answers if isinstance(answer, CodeSpentError)]
    balances = [(await Accounts(database).get(a.id)).balance_nanousd for a in (account, other)]
    assert len(refused) == 19
    assert sorted(balances) == [0, 5 * DOLLAR]


@pytest.mark.parametrize("raw", ["", "hello", "7H3KQ-0XWEP-M4T9A-Z2C8R", "x" * 10_000, "ü" * 20])
async def test_unknown_code_is_refused(database: Database, account: Account, raw: str) -> None:
    """Well-formed and malformed codes that do not exist get the same error."""
    with pytest.raises(UnknownCodeError):
        await Codes(database).redeem(raw, account.id, BY)


async def test_expired_code_is_refused(database: Database, account: Account) -> None:
    """A code is worth nothing from its expiry on."""
    made = await make(database, expires_at=int(time.time()))

    with pytest.raises(CodeSpentError, match="expired"):
        await Codes(database).redeem(made.raw, account.id, BY)


async def test_revoked_code_is_refused_and_a_redeemed_one_cannot_be_revoked(
    database: Database, account: Account
) -> None:
    """A revoked code cannot be redeemed, nor a redeemed one revoked."""
    codes = Codes(database)
    revoked, redeemed = await make(database), await make(database)
    await codes.redeem(redeemed.raw, account.id, BY)

    first = await codes.revoke(revoked.code.id, BY)
    again = await codes.revoke(revoked.code.id, BY)

    assert first.revoked_at is not None
    assert again == first
    with pytest.raises(CodeSpentError, match="revoked"):
        await codes.redeem(revoked.raw, account.id, BY)
    with pytest.raises(CodeSpentError, match="redeemed"):
        await codes.revoke(redeemed.code.id, BY)
    with pytest.raises(UnknownCodeError):
        await codes.revoke("code_none", BY)


async def test_code_of_a_refused_booking_is_not_used_up(
    database: Database, account: Account
) -> None:
    """Taking the code and booking its amount succeed or fail together."""
    made = await make(database)
    limit = Credits(database)
    for _ in range(9):
        await limit.topup(account.id, 1_000_000 * DOLLAR, BY)

    with pytest.raises(UnknownAccountError):
        await Codes(database).redeem(made.raw, "acct_none", BY)
    with pytest.raises(AmountError, match="out of bounds"):
        await Codes(database).redeem(made.raw, account.id, BY)

    assert (await Codes(database).list())[0].state(time.time()) == "open"


async def test_codes_are_stored_as_digests_only(database: Database, tmp_path: Path) -> None:
    """Neither the table, nor the audit log, nor the file holds a code."""
    details = CodeDetails(amount_nanousd=DOLLAR)
    made = await Codes(database).create(details, BY, 3)

    async with database.read() as connection:
        rows = (await connection.execute(sa.select(CODES))).all()
    kept = repr(rows) + repr(await AuditLog(database).list()) + repr(made)
    files = await asyncio.to_thread(_bytes_below, tmp_path)

    assert len({code.raw for code in made}) == 3
    for code in made:
        for form in (code.raw, read_code(code.raw), code.raw.lower()):
            assert form is not None
            assert form not in kept
            assert form.encode() not in files


def _bytes_below(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


async def test_codes_worth_nothing_or_too_much_are_not_made(database: Database) -> None:
    """An amount out of range, no code and more than 10,000 codes at once are refused."""
    codes = Codes(database)
    for amount in (0, -1, 1_000_001 * DOLLAR):
        with pytest.raises(AmountError):
            await codes.create(CodeDetails(amount_nanousd=amount), BY)
    for count in (0, 10_001):
        with pytest.raises(ValueError, match="from 1 to 10000"):
            await codes.create(CodeDetails(amount_nanousd=1), BY, count)
        with pytest.raises(InvalidValueError, match="from 1 to 10000"):
            await CodeOperations(database).create(CodeDetails(amount_nanousd=1), count, BY)

    assert await codes.list() == []


async def test_ten_thousand_codes_are_made_at_once(database: Database) -> None:
    """The largest batch is complete, and its codes are listed in pages."""
    operations = CodeOperations(database)

    made = await operations.create(CodeDetails(amount_nanousd=1_000_000 * DOLLAR), 10_000, BY)
    first = await operations.list(limit=9_999)
    rest = await operations.list(after=first[-1].id, limit=9_999)

    assert len({each.raw for each in made}) == 10_000
    assert len(first) == 9_999
    assert len(rest) == 1
