"""What commands on the database have in common: open it, see to its schema, tell failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from gateway.cli.config import store_secrets
from gateway.cli.output import FAILURE, fail
from gateway.errors import GatewayError
from gateway.settings import Secrets, Settings
from gateway.store.accounts.accounts import Account, Accounts, UnknownAccountError
from gateway.store.accounts.codes import CodeSpentError, UnknownCodeError
from gateway.store.accounts.credits import (
    AlreadyRefundedError,
    AmountError,
    IdempotencyConflictError,
    UnknownChargeError,
)
from gateway.store.keys.repository import KeyRevokedError, UnknownKeyError
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate, pending_revisions

Answer = TypeVar("Answer")


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Listed = TypeVar("Listed", bound=_HasId)


_REFUSALS: dict[type[Exception], str] = {
    UnknownAccountError: "There is no account {0}.",
    UnknownKeyError: "There is no key {0}.",
    KeyRevokedError: "The key {0} is revoked, which is final.",
    AmountError: "This cannot be booked: {0}.",
    IdempotencyConflictError: "The key {0} belongs to another booking.",
    UnknownChargeError: "No call {0} was charged, or the ledger has not come to it yet.",
    AlreadyRefundedError: "The call {0} was refunded before.",
    UnknownCodeError: "There is no such code.",
    CodeSpentError: "The code is {0}.",
}
"""What refusals of the stores are in words; {0} is their argument."""


class StoreRefusalError(Exception):
    """The command cannot be done; the message says why."""


def with_database(settings: Settings, work: Callable[[Database], Awaitable[Answer]]) -> Answer:
    """
    Run `work` with an open database; on a failure print it and end with exit code 1.

    The embedded database is brought to this program's schema first. That of a server is left to
    `capio migrate`: when to change a database that others use is for people to say.
    """
    try:
        return asyncio.run(_run(settings, store_secrets(settings), work))
    except GatewayError as failure:
        detail = f" ({failure.detail})" if failure.detail else ""
        fail([f"{failure.message}{detail}"], FAILURE)
    except tuple(_REFUSALS) as failure:
        fail([_REFUSALS[type(failure)].format(*failure.args)], FAILURE)
    except (StoreRefusalError, OSError) as failure:
        fail([str(failure)], FAILURE)


async def _run(
    settings: Settings, secrets: Secrets, work: Callable[[Database], Awaitable[Answer]]
) -> Answer:
    database = Database(settings, secrets.sql_password)
    try:
        pending = await pending_revisions(database)
        if pending and not database.is_sqlite:
            raise StoreRefusalError(
                f"The database lacks {len(pending)} schema steps: run `capio migrate` first."
            )
        if pending:
            await migrate(settings)
        return await work(database)
    finally:
        await database.aclose()


async def find_account(database: Database, wanted: str) -> Account:
    """
    Return the account with this id, or the only one with this name.

    Raises:
        UnknownAccountError: There is none.
        StoreRefusalError: Several have the name.
    """
    accounts = Accounts(database)
    try:
        return await accounts.get(wanted)
    except UnknownAccountError:
        named = await accounts.list(name=wanted, limit=2)
    if not named:
        raise UnknownAccountError(wanted)
    if len(named) > 1:
        raise StoreRefusalError(f"Several accounts are named {wanted}: give the id.")
    return named[0]


async def every(page_after: Callable[[str], Awaitable[Sequence[Listed]]]) -> list[Listed]:
    """Return all rows of a listing that is given in pages; it takes the last id seen."""
    found: list[Listed] = []
    while page := await page_after(found[-1].id if found else ""):
        found.extend(page)
    return found
