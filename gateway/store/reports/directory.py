"""
Lists of accounts, keys, codes and users for operators: filtered, newest first, one page at a time.

A page continues after the id of its last row; ids sort by the time at which they were made.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from gateway.store.accounts.accounts import Account, account_of
from gateway.store.accounts.codes import Code, code_of
from gateway.store.keys.repository import KeyRow, key_row
from gateway.store.people.users import User, user_of
from gateway.store.sql.database import Database
from gateway.store.sql.people_tables import MEMBERSHIPS, PASSKEYS, SESSIONS, USERS
from gateway.store.sql.tables import ACCOUNTS, API_KEYS, CODES, USAGE_EVENTS, USAGE_TOTALS

_LAST_FOUR = 4
# Any property of the totals contains all calls: outcomes have the fewest values.
_EVERY_CALL = "outcome"


class AccountState(enum.Enum):
    """Accounts that a list can be restricted to. The value is used in URLs."""

    NEGATIVE = "negative"
    """They owe money."""
    IDLE = "idle"
    """They made no call since a time."""


class AccountsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Selects accounts; empty: all."""

    text: str = ""
    """Part of the name, or an account's id, a key's id or a key's last four characters."""
    account_id: str = ""
    state: AccountState | None = None
    since_quarter: int = 0
    """For `IDLE`, and for the sums: the first quarter of an hour since 1970-01-01 UTC."""


class AccountLine(msgspec.Struct, frozen=True, kw_only=True):
    """An account with what its calls came to since `since_quarter`."""

    account: Account
    keys: int
    """Keys that are not revoked."""
    last_call_ms: int | None
    cost_nanousd: int = 0
    margin_nanousd: int = 0


class KeysQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Selects keys; empty: all."""

    text: str = ""
    """Part of the name, or the id or the last four characters of the key, or its account's id."""
    digest: bytes | None = None
    """The SHA-256 of a key: finds that key only."""
    state: str = ""


class KeyLine(msgspec.Struct, frozen=True, kw_only=True):
    """A key and the name of its account."""

    row: KeyRow
    account_name: str
    last_call_ms: int | None


class KeyNames(NamedTuple):
    """The names of a key and of its account."""

    key: str
    account_id: str
    account: str


class PersonLine(msgspec.Struct, frozen=True, kw_only=True):
    """A user with the number of their accounts and sessions."""

    user: User
    accounts: int
    sessions: int
    has_passkey: bool

    @property
    def has_second_factor(self) -> bool:
        """The user has an authenticator or a passkey."""
        return self.user.totp is not None or self.has_passkey


class Directory:
    """Reads the lists. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def accounts(
        self, which: AccountsQuery, *, before: str = "", limit: int
    ) -> list[AccountLine]:
        """Return accounts with an id below `before`, newest first, in two statements."""
        column, since = ACCOUNTS.c, which.since_quarter
        query = _page(sa.select(ACCOUNTS, _keys_of(column.id), _last_call(column.id)), column.id)
        conditions = _before(column.id, before)
        if which.account_id:
            conditions.append(column.id == which.account_id)
        if which.text:
            named = sa.select(API_KEYS.c.account_id).where(_is_key(which.text))
            conditions.append(_contains(column.name, which.text) | column.id.in_(named))
            conditions[-1] |= column.id == which.text
        if which.state is AccountState.NEGATIVE:
            conditions.append(column.balance_nanousd < 0)
        elif which.state is AccountState.IDLE:
            recent = sa.exists().where(
                USAGE_TOTALS.c.account_id == column.id,
                USAGE_TOTALS.c.property == _EVERY_CALL,
                USAGE_TOTALS.c.quarter >= since,
            )
            conditions.append(~recent)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.where(*conditions).limit(limit))).all()
            money = await connection.execute(_money([row.id for row in rows], since))
            sums = {row.account_id: row for row in money}
        return [
            AccountLine(
                account=account_of(row),
                keys=row.key_count,
                last_call_ms=row.last_call_ms,
                cost_nanousd=int(sums[row.id].cost) if row.id in sums else 0,
                margin_nanousd=int(sums[row.id].margin) if row.id in sums else 0,
            )
            for row in rows
        ]

    async def keys(self, which: KeysQuery, *, before: str = "", limit: int) -> list[KeyLine]:
        """Return keys with an id below `before`, newest first."""
        column = API_KEYS.c
        last = (
            sa.select(sa.func.max(USAGE_EVENTS.c.at_ms))
            .where(USAGE_EVENTS.c.key_id == column.id)
            .scalar_subquery()
            .label("last_call_ms")
        )
        query = sa.select(API_KEYS, ACCOUNTS.c.name.label("account_name"), last).join(
            ACCOUNTS, ACCOUNTS.c.id == column.account_id
        )
        conditions = _before(column.id, before)
        if which.digest is not None:
            conditions.append(column.digest == which.digest)
        if which.text:
            found = _contains(column.name, which.text) | (column.account_id == which.text)
            conditions.append(found | _is_key(which.text))
        if which.state:
            conditions.append(column.state == which.state)
        query = _page(query, column.id).where(*conditions).limit(limit)
        async with self._database.read() as connection:
            return [
                KeyLine(
                    row=key_row(row),
                    account_name=row.account_name,
                    last_call_ms=row.last_call_ms,
                )
                for row in await connection.execute(query)
            ]

    async def key_names(self, key_ids: Collection[str]) -> dict[str, KeyNames]:
        """Return the names of keys and of their accounts, by the keys' ids."""
        query = (
            sa.select(API_KEYS.c.id, API_KEYS.c.name, ACCOUNTS.c.id, ACCOUNTS.c.name)
            .join(ACCOUNTS, ACCOUNTS.c.id == API_KEYS.c.account_id)
            .where(API_KEYS.c.id.in_(key_ids))
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return {row[0]: KeyNames(row[1], row[2], row[3]) for row in rows}

    async def user_names(self, user_ids: Collection[str]) -> dict[str, str]:
        """Return the names of users, by id; those who left have none."""
        query = sa.select(USERS.c.id, USERS.c.name).where(USERS.c.id.in_(user_ids))
        async with self._database.read() as connection:
            return {row.id: row.name for row in await connection.execute(query)}

    async def codes(
        self, state: str, now_s: int, *, text: str = "", before: str = "", limit: int
    ) -> list[Code]:
        """Return codes in a state of `Code.state`, or all, newest first."""
        column = CODES.c
        conditions = [*_before(column.id, before), *_in_state(state, now_s)]
        if text:
            shown = text.replace("-", "").replace(" ", "").upper()
            conditions.append(
                (column.last_four == shown[-_LAST_FOUR:])
                | _contains(column.note, text)
                | (column.redeemed_by == text)
            )
        query = _page(sa.select(CODES), column.id).where(*conditions).limit(limit)
        async with self._database.read() as connection:
            return [code_of(row) for row in await connection.execute(query)]

    async def people(self, text: str, *, before: str = "", limit: int) -> list[PersonLine]:
        """Return users whose name or sign-in name contains a text, newest first."""
        column = USERS.c
        counts = [
            sa.select(sa.func.count())
            .select_from(table)
            .where(table.c.user_id == column.id)
            .scalar_subquery()
            .label(name)
            for table, name in ((MEMBERSHIPS, "accounts"), (SESSIONS, "sessions"))
        ]
        passkey = sa.exists().where(PASSKEYS.c.user_id == column.id).label("has_passkey")
        conditions = _before(column.id, before)
        if text:
            found = _contains(column.name, text) | _contains(column.login, text)
            conditions.append(found | (column.id == text))
        query = _page(sa.select(USERS, *counts, passkey), column.id)
        async with self._database.read() as connection:
            return [
                PersonLine(
                    user=user_of(row),
                    accounts=row.accounts,
                    sessions=row.sessions,
                    has_passkey=bool(row.has_passkey),
                )
                for row in await connection.execute(query.where(*conditions).limit(limit))
            ]


def _page(query: sa.Select[Any], column: sa.ColumnElement[str]) -> sa.Select[Any]:
    return query.order_by(column.desc())


def _before(column: sa.ColumnElement[str], before: str) -> list[sa.ColumnElement[bool]]:
    return [column < before] if before else []


def _contains(column: sa.ColumnElement[Any], text: str) -> sa.ColumnElement[bool]:
    """Compare without case, and without a meaning of `%` and `_`."""
    return sa.func.lower(column).contains(text.lower(), autoescape=True)


def _is_key(text: str) -> sa.ColumnElement[bool]:
    column = API_KEYS.c
    found: sa.ColumnElement[bool] = column.id == text
    # Also a key as pages show it: `sk-capio-live-…x7Qz`.
    if len(text) == _LAST_FOUR or "\N{HORIZONTAL ELLIPSIS}" in text:
        found |= column.last_four == text[-_LAST_FOUR:]
    return found


def _keys_of(account_id: sa.ColumnElement[str]) -> sa.Label[int]:
    return (
        sa.select(sa.func.count())
        .where(API_KEYS.c.account_id == account_id, API_KEYS.c.state != "revoked")
        .scalar_subquery()
        .label("key_count")
    )


def _last_call(account_id: sa.ColumnElement[str]) -> sa.Label[int]:
    # A subquery for each account, so that each is one look into the index.
    return (
        sa.select(sa.func.max(USAGE_EVENTS.c.at_ms))
        .where(USAGE_EVENTS.c.account_id == account_id)
        .scalar_subquery()
        .label("last_call_ms")
    )


def _money(account_ids: Sequence[str], since_quarter: int) -> sa.Select[Any]:
    sums = USAGE_TOTALS.c
    return (
        sa.select(
            sums.account_id,
            sa.func.sum(sums.cost_nanousd).label("cost"),
            sa.func.sum(sums.margin_nanousd).label("margin"),
        )
        .where(sums.account_id.in_(account_ids), sums.property == _EVERY_CALL)
        .where(sums.quarter >= since_quarter)
        .group_by(sums.account_id)
    )


def _in_state(state: str, now_s: int) -> list[sa.ColumnElement[bool]]:
    column = CODES.c
    is_open = [column.redeemed_at.is_(None), column.revoked_at.is_(None)]
    is_past = column.expires_at <= now_s
    if state == "redeemed":
        return [column.redeemed_at.is_not(None)]
    if state == "revoked":
        return [column.revoked_at.is_not(None)]
    if state == "expired":
        return [*is_open, is_past]
    if state == "open":
        return [*is_open, column.expires_at.is_(None) | ~is_past]
    return []
