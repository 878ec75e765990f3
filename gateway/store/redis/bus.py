"""What the stores need of Redis, whether it is one server or a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.store.redis.client import RedisState
from gateway.store.redis.connection import Argument, Reply
from gateway.store.redis.scripts import LuaScript


class RedisBus(Protocol):
    """
    Sends commands, those of a loop turn together; see `client` for one server.

    All keys of a command or script must have the same hash tag, or be one key.
    """

    @property
    def state(self) -> RedisState:
        """Whether commands are accepted; of a cluster, the worst of its masters."""

    @property
    def pending(self) -> int:
        """Commands without a reply."""

    @property
    def failed_total(self) -> int:
        """Commands that failed without a reply."""

    async def start(self) -> None:
        """Start connecting; return when the first attempt has succeeded or failed."""

    async def aclose(self) -> None:
        """Fail pending commands and disconnect. Idempotent."""

    def command(self, *args: Argument) -> asyncio.Future[Reply]:
        """
        Send one command; the future returned is its reply.

        It fails with `RedisUnavailable` (no reply in time, or not sent) or `ReplyError`.
        """

    def before_flush(self, gather: Callable[[], None]) -> None:
        """Call `gather` before the commands of this turn are sent; it adds its own to them."""

    async def script(
        self, script: LuaScript, keys: Sequence[Argument], args: Sequence[Argument] = ()
    ) -> Reply:
        """Run a script by its digest; load it first if Redis does not have it."""
