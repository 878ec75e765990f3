"""Usage events that were set aside, and the check of all balances by the ledger process."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from gateway.errors import ErrorKind, GatewayError
from gateway.store.accounts.audit import Actor, record
from gateway.store.accounts.reconcile_runs import ReconcileRun, ReconcileRuns
from gateway.store.redis.client import RedisUnavailable, ReplyError
from gateway.store.sql.database import Database
from gateway.store.usage.dead_letters import DeadLetter, DeadLetters

T = TypeVar("T")


class UpkeepOperations:
    """
    Dead letters and balance checks. Any method may raise GatewayError (STORE_UNAVAILABLE).

    Args:
        database: The SQL database, for the audit log.
        letters: The events that were set aside.
        runs: Requests to the ledger process, and their results.
    """

    def __init__(self, database: Database, letters: DeadLetters, runs: ReconcileRuns) -> None:
        self._database = database
        self._letters = letters
        self._runs = runs

    async def letters(self, *, before: str = "", limit: int) -> Sequence[DeadLetter]:
        """Return up to `limit` events that were set aside, newest first."""
        return await _sent(self._letters.list(before=before, limit=limit))

    async def letter_count(self) -> int:
        """Return how many events are set aside."""
        return await _sent(self._letters.count())

    async def requeue(self, letter_id: str, by: Actor) -> DeadLetter:
        """
        Requeue an event after the cause of its failure is fixed.

        Raises:
            UnknownLetterError, UnreadableLetterError, StreamFullError.
        """
        letter = await _sent(self._letters.get(letter_id))
        if letter.event is not None:
            facts = {"letter": letter.id, "reason": letter.reason}
            async with self._database.write() as connection:
                await record(connection, by, "usage.requeue", letter.event.request_id, before=facts)
        await _sent(self._letters.requeue(letter_id))
        return letter

    async def ask_reconcile(self, by: Actor) -> bool:
        """Ask the ledger process for a check; return False if one is under way."""
        if not await _sent(self._runs.ask(by.name)):
            return False
        async with self._database.write() as connection:
            await record(connection, by, "ledger.reconcile", "ledger")
        return True

    async def reconcile_pending(self) -> bool:
        """Return whether a check is under way."""
        return await _sent(self._runs.is_pending())

    async def last_reconcile(self) -> ReconcileRun | None:
        """Return the result of the last check; None if there was none in 30 days."""
        return await _sent(self._runs.last())


async def _sent(reply: Awaitable[T]) -> T:
    try:
        return await reply
    except (RedisUnavailable, ReplyError) as error:
        raise GatewayError(ErrorKind.STORE_UNAVAILABLE, "Redis is unavailable.") from error
