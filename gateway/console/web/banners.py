"""
The notices that all pages show now.

They are read by a task of the process every few seconds, and at once after a change here, so that
no page waits for SQL.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from gateway.errors import GatewayError
from gateway.store.announcements.notices import MAX_ACTIVE, Notice, Notices

EVERY_S: Final = 5.0


class Banners:
    """
    Caches current and future notices.

    Args:
        notices: The table.
    """

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._kept: Sequence[Notice] = ()

    def active(self) -> list[Notice]:
        """Return what pages show now, the newest first."""
        now = time.time()
        return [each for each in self._kept if each.is_active(now)][:MAX_ACTIVE]

    @property
    def version(self) -> str:
        """Differs when pages look different."""
        return ",".join(each.id for each in self.active())

    async def refresh(self) -> None:
        """Read the notices; keep the previous ones if SQL does not respond."""
        try:
            self._kept = await self._notices.current(int(time.time()))
        except GatewayError:
            return

    async def run(self, stop: asyncio.Event) -> None:
        """Read them every few seconds until `stop` is set."""
        while not stop.is_set():
            await self.refresh()
            try:
                async with asyncio.timeout(EVERY_S):
                    await stop.wait()
            except TimeoutError:
                continue
