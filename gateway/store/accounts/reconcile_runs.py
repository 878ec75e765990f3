"""
Runs of the reconciliation that operators ask for, through Redis.

A ledger process takes the request, since the check reads every entry: a console's statements are
short. The last result is kept for 30 days.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from gateway.store.accounts.reconcile import Difference

MAX_SHOWN: Final = 100
"""Differences that a result keeps."""
_ASKED_S: Final = 600
_KEPT_S: Final = 30 * 86_400


class ReconcileRun(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run."""

    asked_by: str
    at: int
    """Unix seconds at its end."""
    took_ms: int
    accounts: int = 0
    entries: int = 0
    differences: int = 0
    shown: tuple[Difference, ...] = ()
    """The first MAX_SHOWN."""
    error: str | None = None
    """Why it did not end; None: it did."""


_RUN: Final = msgspec.json.Decoder(ReconcileRun)


class ReconcileRuns:
    """
    Both sides. Any method may raise what `command` raises.

    Args:
        command: Sends one command to Redis.
        key_prefix: `redis.key_prefix`.
    """

    def __init__(self, command: Callable[..., Awaitable[Any]], key_prefix: str) -> None:
        self._command = command
        self._asked = f"{key_prefix}reconcile:asked"
        self._result = f"{key_prefix}reconcile:result"
        self._running = f"{key_prefix}reconcile:running"

    async def ask(self, by: str) -> bool:
        """Ask for a run; return False if one is asked for or running."""
        if await self._command("EXISTS", self._running):
            return False
        asked = await self._command("SET", self._asked, by, "NX", "EX", str(_ASKED_S))
        return asked is not None

    async def take(self) -> str | None:
        """Return who asked for a run that this process is to make; None: no one."""
        by = await self._command("GETDEL", self._asked)
        if not isinstance(by, bytes):
            return None
        await self._command("SET", self._running, by, "EX", str(_ASKED_S))
        return by.decode()

    async def finish(self, run: ReconcileRun) -> None:
        """Keep the result of a run."""
        await self._command("SET", self._result, msgspec.json.encode(run), "EX", str(_KEPT_S))
        await self._command("DEL", self._running)

    async def is_pending(self) -> bool:
        """Return whether a run is asked for or running."""
        # One by one, since a cluster may have them on two servers.
        if await self._command("EXISTS", self._asked):
            return True
        return bool(await self._command("EXISTS", self._running))

    async def last(self) -> ReconcileRun | None:
        """Return the last result."""
        found = await self._command("GET", self._result)
        try:
            return _RUN.decode(found) if isinstance(found, bytes) else None
        except msgspec.MsgspecError:  # of another version
            return None
