"""
Announces changes of the catalogue, and repeats announcements that Redis missed.

A process that changes the catalogue may end, or Redis may be unavailable, between the change in SQL
and its announcement. So every console compares both from time to time.
"""

from __future__ import annotations

import asyncio
import logging

from gateway.errors import GatewayError
from gateway.store.catalogue.records import CatalogueRecords, StoredCatalogue
from gateway.store.catalogue.shared import SharedCatalogue
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError

logger = logging.getLogger(__name__)

COMPARE_S = 15.0


class CatalogueAnnouncer:
    """
    Writes the copy in Redis.

    Args:
        records: SQL.
        shared: The copy.
    """

    def __init__(self, records: CatalogueRecords, shared: SharedCatalogue) -> None:
        self._records = records
        self._shared = shared
        self._is_behind = False

    async def announce(self, catalogue: StoredCatalogue) -> bool:
        """Announce a change; return False if Redis is unavailable: `run` repeats it."""
        try:
            await self._shared.announce(catalogue)
        except (RedisUnavailable, ReplyError):
            return False
        return True

    async def run(self) -> None:
        """Compare SQL with Redis until cancelled."""
        while True:
            try:
                await self.compare()
                self._is_behind = False
            except (GatewayError, RedisUnavailable, ReplyError) as failure:
                if not self._is_behind:
                    reason = type(failure).__name__
                    logger.warning("catalogue_compare_failed", extra={"reason": reason})
                self._is_behind = True
            await asyncio.sleep(COMPARE_S)

    async def compare(self) -> bool:
        """
        Announce what SQL has if Redis has something else; return whether it did.

        Raises:
            GatewayError, RedisUnavailable, ReplyError: SQL or Redis is unavailable.
        """
        revision = await self._records.revision()
        if revision == await self._shared.revision():
            return False
        await self._shared.announce(await self._records.read())
        logger.info("catalogue_announced", extra={"revision": revision})
        return True
