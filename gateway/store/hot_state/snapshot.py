"""
What the hot state in Redis needs of SQL: the narrow port through which accounts are loaded.

SQL is the truth. Redis holds, for each account, SQL's balance as of a *position*, the sum of the
events that wait in the usage stream (charged there, not yet in SQL), and the holds of running
calls. What may be spent is the first, less the other two, plus the credit limit.

Positions make this sound without any lock between the two. The position of an account grows with
every movement of its balance (the id of its newest ledger entry), and is read in the same snapshot
as the balance. Redis never takes a balance of an older position; and the script that removes stored
events from the stream takes them off the waiting sum and sets the new balance in one step. So:

1. An event lowers what may be spent from when it is settled, and only once for good: while it
   waits, through the waiting sum; afterwards, through SQL's balance.
2. Between SQL's commit and that script both may count it, for milliseconds: too little may be
   spent then, never too much.
3. A Redis that comes back empty holds nothing; each account is loaded again at its next call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.core.limits import NO_LIMITS, Limits


class SpendScope(msgspec.Struct, frozen=True):
    """Whose spending is asked for: the account's, a key's (`key_id`), or a key's for one model."""

    key_id: str | None = None
    model: str | None = None
    """A public model name; only with `key_id`."""


class Spent(msgspec.Struct, frozen=True):
    """The costs of stored calls by `at_ms`, in nano-dollars: refunds do not count."""

    day_nanousd: int = 0
    month_nanousd: int = 0
    total_nanousd: int = 0


class AccountState(msgspec.Struct, frozen=True, kw_only=True):
    """One account, all read in one snapshot of SQL."""

    account_id: str
    position: int
    """The id of its newest ledger entry; 0 without any."""
    version: int
    """Grows with every change but those of the balance."""
    balance_nanousd: int
    credit_limit_nanousd: int | None = 0
    """How far below zero it may go: 0 for a prepaid account; None: without end."""
    limits: Limits = NO_LIMITS
    trusted: bool = False
    """The worst case of its running calls is not bounded by its credit."""
    spent: Mapping[SpendScope, Spent] = {}
    """For each scope that was asked for."""


class Position(msgspec.Struct, frozen=True):
    """An account's balance after a batch was booked, read in the batch's transaction."""

    position: int
    balance_nanousd: int


class AccountSource(Protocol):
    """SQL, for the workers. Both raise GatewayError (STORE_UNAVAILABLE) within a bounded time."""

    async def load(
        self, account_id: str, scopes: Sequence[SpendScope], *, day: int, month: int
    ) -> AccountState | None:
        """
        Return one account; None when there is none with this id.

        Args:
            account_id: Which.
            scopes: Whose spending to add up; often none.
            day: The UTC day that counts as today, from 1970-01-01 = 0.
            month: The UTC month: year * 12 + month - 1.
        """

    async def stored(self, request_ids: Sequence[str]) -> set[str]:
        """Return which of these calls have a usage row that nothing can supersede any more."""
