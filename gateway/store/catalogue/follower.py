"""
Keeps a process's copy of the catalogue in SQL up to date.

A change is announced on the channel of changed keys. A process that missed the announcement
notices at its next subscription, or by the revision in Redis, which it polls; where Redis has
none, by that in SQL. Whatever the cause, SQL is read. Only a process that has not reached SQL since
its start uses the copy in Redis.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from gateway.errors import GatewayError
from gateway.store.catalogue.records import CatalogueRecords, StoredCatalogue
from gateway.store.catalogue.shared import MESSAGE, SharedCatalogue
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError
from gateway.store.redis.pubsub import Listener

logger = logging.getLogger(__name__)

POLL_S = 5.0
SQL_POLL_S = 30.0
"""How often SQL is asked for its revision where Redis has none."""
RETRY_S = 2.0
"""Pause after an announced change that could not be read."""

Apply = Callable[[StoredCatalogue], Awaitable[None]]


class ServedEntries:
    """
    What a worker reports about the entries of SQL that it serves.

    Args:
        count_rejected: Called with how many it cannot serve.
    """

    def __init__(self, count_rejected: Callable[[float], None]) -> None:
        self._count_rejected = count_rejected
        self.revision = ""
        self.problems: list[str] = []
        """Why entries are left out, by the worker's environment."""
        self.changed = asyncio.Event()

    def replace(self, revision: str, problems: list[str], rejected: int) -> None:
        """Report a new revision soon; log the problems that are new."""
        for problem in problems:
            if problem not in self.problems:
                logger.warning("catalogue_entry_rejected", extra={"problem": problem})
        self._count_rejected(rejected)
        self.revision, self.problems = revision, problems
        self.changed.set()


class CatalogueFollower:
    """
    Reads the catalogue at the start and after each change.

    Args:
        records: SQL.
        shared: The copy in Redis.
        poll_s: How often revisions are compared.

    Attributes:
        current: What was read last.
        apply: Called with a new catalogue; its errors are logged.
    """

    def __init__(
        self, records: CatalogueRecords, shared: SharedCatalogue, *, poll_s: float = POLL_S
    ) -> None:
        self._records = records
        self._shared = shared
        self._poll_s = poll_s
        self._asked_sql_at = 0.0
        self._is_from_sql = False
        self._is_behind = False
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.current = StoredCatalogue("")
        self.apply: Apply = _ignore

    async def load(self) -> StoredCatalogue:
        """Return the catalogue for the start: of SQL, else of Redis, else none."""
        found = await self._newer()
        if found is not None:
            self.current = found
        return self.current

    def start(self, apply: Apply) -> None:
        """Call `apply` after each change from now on."""
        self.apply = apply
        self._task = asyncio.create_task(self._follow(), name="catalogue")

    def announced(self) -> None:
        """Read SQL soon: there is a change, or announcements may have been missed."""
        self._changed.set()

    async def refresh(self) -> None:
        """Read SQL now and apply what is new."""
        found = await self._newer()
        if found is None:
            return
        self.current = found
        try:
            await self.apply(found)
        except Exception:  # whatever is in SQL, the process goes on with what it has
            logger.exception("catalogue_apply_failed", extra={"revision": found.revision})

    async def aclose(self) -> None:
        """Stop following. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _follow(self) -> None:
        while True:
            pause_s = RETRY_S if self._is_behind else self._poll_s
            try:
                # Spread, so that pods do not ask at the same time.
                async with asyncio.timeout(pause_s * random.uniform(0.8, 1.2)):  # noqa: S311
                    await self._changed.wait()
            except TimeoutError:
                if not self._is_behind and not await self._may_differ():
                    continue
            self._changed.clear()
            await self.refresh()

    async def _may_differ(self) -> bool:
        """Return whether SQL should be read, by the revision in Redis or, without one, in SQL."""
        try:
            revision = await self._shared.revision()
        except (RedisUnavailable, ReplyError):
            revision = None
        if revision is not None:
            return revision != self.current.revision or not self._is_from_sql
        now = time.monotonic()
        is_due = now - self._asked_sql_at >= SQL_POLL_S
        if is_due:
            self._asked_sql_at = now
        return is_due

    async def _newer(self) -> StoredCatalogue | None:
        """Return what SQL has if it differs from `current`; the copy if SQL was never read."""
        self._asked_sql_at = time.monotonic()
        try:
            if self._is_from_sql and await self._records.revision() == self.current.revision:
                self._is_behind = False
                return None
            found = await self._records.read()
        except GatewayError as failure:
            if not self._is_behind:
                detail = failure.detail or failure.message
                logger.warning("catalogue_read_failed", extra={"reason": detail})
            self._is_behind = True
            return None if self._is_from_sql else await self._copy()
        is_known = self._is_from_sql and found.revision == self.current.revision
        self._is_from_sql, self._is_behind = True, False
        return None if is_known else found

    async def _copy(self) -> StoredCatalogue | None:
        try:
            found = await self._shared.read()
        except (RedisUnavailable, ReplyError):
            return None
        if found is None or found.revision == self.current.revision:
            return None
        logger.warning("catalogue_copy_used", extra={"revision": found.revision})
        return found


async def _ignore(_catalogue: StoredCatalogue) -> None:
    """Do nothing: the process has not begun to follow."""


class ChangeListener:
    """
    Distributes the messages of the channel: changed keys, and changes of the catalogue.

    Args:
        keys: Receives all other messages.
        catalogue: Reads SQL after announcements.
    """

    def __init__(self, keys: Listener, catalogue: CatalogueFollower) -> None:
        self._keys = keys
        self._catalogue = catalogue

    def subscribed(self, since: float) -> None:
        self._keys.subscribed(since)
        self._catalogue.announced()

    def proven(self, since: float) -> None:
        self._keys.proven(since)

    def received(self, message: bytes) -> None:
        if message.startswith(MESSAGE):
            self._catalogue.announced()
        else:
            self._keys.received(message)

    def lost(self) -> None:
        self._keys.lost()
