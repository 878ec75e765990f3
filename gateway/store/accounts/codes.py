"""
Redemption codes in SQL. A code itself is returned once, by `create`; what stays is its SHA-256.

Redeeming is one UPDATE that only the first of all who try can win, in the transaction that books
the amount.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.money import MAX_AMOUNT_NANOUSD
from gateway.store.accounts.accounts import UnknownAccountError
from gateway.store.accounts.audit import Actor, Facts, record, record_made
from gateway.store.accounts.code_format import RANDOM_BITS, code_digest, read_code, show_code
from gateway.store.accounts.credits import AmountError, Booking, EntryKind, LedgerEntry, book
from gateway.store.sql.database import Database
from gateway.store.sql.ids import new_id
from gateway.store.sql.tables import ACCOUNTS, CODES

MAX_CODES = 10_000
"""Codes made at once."""


class UnknownCodeError(LookupError):
    """There is no such code."""


class CodeSpentError(Exception):
    """The code cannot be redeemed (any more); the argument is its state."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """What may be shown of a code. Times are in Unix seconds."""

    id: str
    last_four: str
    amount_nanousd: int
    note: str | None
    created_at: int
    created_by: str
    expires_at: int | None = None
    revoked_at: int | None = None
    redeemed_at: int | None = None
    redeemed_by: str | None = None
    """An account's id."""

    def state(self, now: float) -> str:
        """Return `redeemed`, `revoked`, `expired` or `open`."""
        if self.redeemed_at is not None:
            return "redeemed"
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "open"


class NewCode(msgspec.Struct, frozen=True):
    """A code just made. `raw` is the code itself: show it once and forget it."""

    raw: str
    code: Code

    def __repr__(self) -> str:
        return f"NewCode({self.code.id})"


class CodeDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What codes are made with. `note` says what for; `expires_at` is in Unix seconds."""

    amount_nanousd: int
    note: str | None = None
    expires_at: int | None = None


class Codes:
    """The codes table. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, details: CodeDetails, by: Actor, count: int = 1) -> list[NewCode]:
        """
        Make up to MAX_CODES codes that are alike.

        Raises:
            AmountError: the amount is not positive, or beyond what one booking may move.
            ValueError: too many at once.
        """
        if not 0 < details.amount_nanousd <= MAX_AMOUNT_NANOUSD:
            raise AmountError(
                "a code must be worth more than nothing and at most a million dollars"
            )
        if not 1 <= count <= MAX_CODES:
            raise ValueError(f"from 1 to {MAX_CODES} codes can be made at once")
        made = [_new_code(details, by) for _ in range(count)]
        rows = [{**msgspec.structs.asdict(each.code), "digest": _digest(each.raw)} for each in made]
        async with self._database.write() as connection:
            await connection.execute(sa.insert(CODES), rows)
            facts = {each.code.id: _facts(each.code) for each in made}
            await record_made(connection, by, "code.create", facts)
        return made

    async def list(self, *, after: str = "", limit: int = 1000) -> Sequence[Code]:
        """Return up to `limit` codes, the oldest first, that follow the id `after`."""
        query = sa.select(CODES).where(CODES.c.id > after).order_by(CODES.c.id).limit(limit)
        async with self._database.read() as connection:
            return [_code(row) for row in await connection.execute(query)]

    async def revoke(self, code_id: str, by: Actor) -> Code:
        """
        Make a code worthless. Revoking twice is no error.

        Raises:
            UnknownCodeError: there is none with this id.
            CodeSpentError: it was redeemed; to take the money back, adjust the balance.
        """
        change = (
            sa.update(CODES)
            .where(CODES.c.id == code_id, CODES.c.redeemed_at.is_(None))
            .where(CODES.c.revoked_at.is_(None))
            .values(revoked_at=int(time.time()))
            .returning(CODES)
        )
        async with self._database.write() as connection:
            row = (await connection.execute(change)).first()
            if row is not None:
                await record(connection, by, "code.revoke", code_id, after=_facts(_code(row)))
                return _code(row)
            code = await _find(connection, CODES.c.id == code_id)
        if code.redeemed_at is not None:
            raise CodeSpentError("redeemed")
        return code

    async def redeem(self, raw: str, account_id: str, by: Actor) -> LedgerEntry:
        """
        Add a code's amount to an account, once in the code's life.

        Args:
            raw: As somebody typed it.
            account_id: Whose balance.
            by: Who does it.

        Raises:
            UnknownCodeError: there is no such code.
            CodeSpentError: it is redeemed, revoked or expired.
            UnknownAccountError: there is no such account.
            AmountError: the balance would leave its bounds.
        """
        digits = read_code(raw)
        if digits is None:
            raise UnknownCodeError
        now = int(time.time())
        which = CODES.c.digest == code_digest(digits)
        take = (
            sa.update(CODES)
            .where(which, CODES.c.redeemed_at.is_(None), CODES.c.revoked_at.is_(None))
            .where(CODES.c.expires_at.is_(None) | (CODES.c.expires_at > now))
            .values(redeemed_at=now, redeemed_by=account_id)
            .returning(CODES)
        )
        async with self._database.write() as connection:
            owner = sa.select(ACCOUNTS.c.id).where(ACCOUNTS.c.id == account_id)
            if (await connection.execute(owner)).first() is None:
                raise UnknownAccountError(account_id)
            row = (await connection.execute(take)).first()
            if row is None:
                raise CodeSpentError((await _find(connection, which)).state(now))
            code = _code(row)
            entry = await book(
                connection,
                Booking(
                    account_id=account_id,
                    kind=EntryKind.CODE,
                    amount_nanousd=code.amount_nanousd,
                    actor=by.name,
                    reason=code.id,
                ),
            )
            await record(connection, by, "code.redeem", code.id, after=_facts(code))
        return entry


def _new_code(details: CodeDetails, by: Actor) -> NewCode:
    raw = show_code(secrets.randbits(RANDOM_BITS))
    code = Code(
        id=new_id("code"),
        last_four=raw[-4:],
        created_at=int(time.time()),
        created_by=by.name,
        **msgspec.structs.asdict(details),
    )
    return NewCode(raw, code)


def _digest(raw: str) -> bytes:
    digits = read_code(raw)
    assert digits is not None
    return code_digest(digits)


async def _find(connection: AsyncConnection, which: sa.ColumnElement[bool]) -> Code:
    row = (await connection.execute(sa.select(CODES).where(which))).first()
    if row is None:
        raise UnknownCodeError
    return _code(row)


def _code(row: sa.Row[Any]) -> Code:
    columns = dict(row._mapping)
    del columns["digest"]
    return Code(**columns)


def _facts(code: Code) -> Facts:
    facts = msgspec.structs.asdict(code)
    return {name: value for name, value in facts.items() if name != "id" and value is not None}
