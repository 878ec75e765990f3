"""
Redemption codes in SQL. The raw code is returned once, by `create`; only its SHA-256 is stored.

Redeeming is one UPDATE, which succeeds at most once, in the transaction that books the amount.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from gateway.core.money import MAX_AMOUNT_NANOUSD
from gateway.store.accounts.accounts import UnknownAccountError
from gateway.store.accounts.audit import Actor, Facts, record, record_made
from gateway.store.accounts.credits import AmountError, Booking, EntryKind, LedgerEntry, book
from gateway.store.sql.database import Database
from gateway.store.sql.ids import new_id
from gateway.store.sql.tables import ACCOUNTS, CODES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM

MAX_CODES = 10_000
"""The most codes that one `create` makes."""

RANDOM_BITS = 100
CODE_LENGTH = 20
_GROUP = 5
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: without I, L, O and U, which are easily misread."""
_READ_AS = str.maketrans("OIL", "011", " -")


class UnknownCodeError(LookupError):
    """There is no such code."""


class CodeSpentError(Exception):
    """The code can no longer be redeemed. `state` is the reason."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """The public fields of a code. Times are in Unix seconds."""

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
    """A new code. `raw` is the secret: show it once and never store it."""

    raw: str
    code: Code

    def __repr__(self) -> str:
        return f"NewCode({self.code.id})"


class CodeDetails(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of new codes. `note` is their purpose; `expires_at` is in Unix seconds."""

    amount_nanousd: int
    note: str | None = None
    expires_at: int | None = None


class Codes:
    """The codes table. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, details: CodeDetails, by: Actor, count: int = 1) -> list[NewCode]:
        """
        Create up to MAX_CODES codes with the same details.

        Raises:
            AmountError: the amount is not positive or above the limit of one booking.
            ValueError: too many codes.
        """
        if not 0 < details.amount_nanousd <= MAX_AMOUNT_NANOUSD:
            raise AmountError(
                "the amount of a code must be more than 0 and at most a million dollars"
            )
        if not 1 <= count <= MAX_CODES:
            raise ValueError(f"the number of codes must be from 1 to {MAX_CODES}")
        made = [_new_code(details, by) for _ in range(count)]
        rows = [{**msgspec.structs.asdict(each.code), "digest": _digest(each.raw)} for each in made]
        async with self._database.write() as connection:
            await connection.execute(sa.insert(CODES), rows)
            facts = {each.code.id: _facts(each.code) for each in made}
            await record_made(connection, by, "code.create", facts)
        return made

    async def list(self, *, after: str = "", limit: int = 1000) -> Sequence[Code]:
        """Return up to `limit` codes after the id `after`, oldest first."""
        query = sa.select(CODES).where(CODES.c.id > after).order_by(CODES.c.id).limit(limit)
        async with self._database.read() as connection:
            return [code_of(row) for row in await connection.execute(query)]

    async def revoke(self, code_id: str, by: Actor) -> Code:
        """
        Revoke a code. Idempotent.

        Raises:
            UnknownCodeError: there is none with this id.
            CodeSpentError: it was redeemed; adjust the balance to take the money back.
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
                await record(connection, by, "code.revoke", code_id, after=_facts(code_of(row)))
                return code_of(row)
            code = await _find(connection, CODES.c.id == code_id)
        if code.redeemed_at is not None:
            raise CodeSpentError("redeemed")
        return code

    async def redeem(self, raw: str, account_id: str, by: Actor) -> LedgerEntry:
        """
        Add a code's amount to an account; each code can be redeemed once.

        Args:
            raw: The code as typed.
            account_id: The account to credit.
            by: The actor, for the audit log.

        Raises:
            UnknownCodeError: there is no such code.
            CodeSpentError: it is redeemed, revoked or expired.
            UnknownAccountError: there is no such account.
            AmountError: the balance would leave its bounds.
        """
        which = _which(raw)
        async with self._database.write() as connection:
            owner = sa.select(ACCOUNTS.c.id).where(ACCOUNTS.c.id == account_id)
            if (await connection.execute(owner)).first() is None:
                raise UnknownAccountError(account_id)
            return await _redeem(connection, which, account_id, by)

    async def is_open(self, raw: str) -> bool:
        """Return whether a code, as typed, can be redeemed now."""
        try:
            which = _which(raw)
            async with self._database.read() as connection:
                return (await _find(connection, which)).state(time.time()) == "open"
        except UnknownCodeError:
            return False


async def redeem_code(
    connection: AsyncConnection, raw: str, account_id: str, by: Actor
) -> LedgerEntry:
    """Redeem a code into an account of the open transaction; raises as `Codes.redeem`."""
    return await _redeem(connection, _which(raw), account_id, by)


async def _redeem(
    connection: AsyncConnection, which: sa.ColumnElement[bool], account_id: str, by: Actor
) -> LedgerEntry:
    now = int(time.time())
    take = (
        sa.update(CODES)
        .where(which, CODES.c.redeemed_at.is_(None), CODES.c.revoked_at.is_(None))
        .where(CODES.c.expires_at.is_(None) | (CODES.c.expires_at > now))
        .values(redeemed_at=now, redeemed_by=account_id)
        .returning(CODES)
    )
    row = (await connection.execute(take)).first()
    if row is None:
        raise CodeSpentError((await _find(connection, which)).state(now))
    code = code_of(row)
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


def _which(raw: str) -> sa.ColumnElement[bool]:
    """Return the condition that finds a typed code; raises UnknownCodeError."""
    digits = read_code(raw)
    if digits is None:
        raise UnknownCodeError
    return CODES.c.digest == code_digest(digits)


def show_code(number: int) -> str:
    """Return a number below 2 ** RANDOM_BITS as a code, `7H3KQ-0XWEP-M4T9A-Z2C8R`."""
    digits = "".join(_DIGITS[number >> place & 31] for place in range(RANDOM_BITS - 5, -1, -5))
    return "-".join(digits[start : start + _GROUP] for start in range(0, CODE_LENGTH, _GROUP))


def read_code(text: str) -> str | None:
    """Return the twenty digits of a typed code; None: it cannot be a code."""
    digits = text.strip().upper().translate(_READ_AS)
    if len(digits) != CODE_LENGTH or not set(digits) <= set(_DIGITS):
        return None
    return digits


def code_digest(digits: str) -> bytes:
    """Return the SHA-256 of `read_code`'s digits."""
    # A hundred random bits cannot be found by guessing, so a plain hash suffices.
    return hashlib.sha256(digits.encode("ascii")).digest()


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
    return code_of(row)


def code_of(row: sa.Row[Any]) -> Code:
    columns = dict(row._mapping)
    del columns["digest"]
    return Code(**columns)


def _facts(code: Code) -> Facts:
    facts = msgspec.structs.asdict(code)
    return {name: value for name, value in facts.items() if name != "id" and value is not None}
