"""Whether an account has credit: by what Redis last said of it, or by asking."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import NamedTuple, cast

from gateway.core.limits import LimitName, used_up_error
from gateway.errors import ErrorKind, GatewayError
from gateway.store.hot_state.redis_schema import ACCOUNT_SCOPE, RedisKeys
from gateway.store.limits.account_loader import AccountLoader
from gateway.store.limits.fallback import FallbackLimiter, LastSeen
from gateway.store.redis.client import RedisClient, RedisUnavailable
from gateway.store.redis.connection import ReplyError

_FIELDS = (b"cr", b"base", b"pend", b"h" + ACCOUNT_SCOPE.encode(), b"lim", b"w")
"""Of an account, see `lua/shard.lua`."""


class _Credit(NamedTuple):
    """An account's money as Redis has it; None: without end."""

    balance_nanousd: int | None
    """With the credit limit, without what running calls hold."""
    available_nanousd: int | None
    limits: bytes
    room_nanousd: int | None
    """What further calls may cost at most, see `lua/reserve.lua`; None: not bounded."""


class RedisCredit:
    """
    Tells whether accounts have credit: `ports.AccountCredit`.

    Args:
        bus: To Redis.
        accounts: Loads accounts that Redis does not have.
        local: What Redis last said; is told what it says here.
        key_prefix: `redis.key_prefix`.
        exposure_floor_nanousd, exposure_share: See `money.exposure_floor` and `exposure_share`.
        top_up: Where credit is bought, a URL.
        count: Called with each refusal, `credit` or `unavailable`: `gateway_reservations_total`.
    """

    def __init__(
        self,
        bus: RedisClient,
        accounts: AccountLoader,
        local: FallbackLimiter,
        key_prefix: str,
        *,
        exposure_floor_nanousd: int,
        exposure_share: float,
        top_up: str,
        count: Callable[[str], None],
    ) -> None:
        self._bus = bus
        self._accounts = accounts
        self._local = local
        self._names = RedisKeys(key_prefix)
        self._exposure_floor = exposure_floor_nanousd
        self._exposure_share = exposure_share
        self._top_up = top_up
        self._count = count
        self._reading: dict[str, asyncio.Task[_Credit | None]] = {}

    def is_known_positive(self, account_id: str) -> bool:
        """Return whether there was credit, see `ports.AccountCredit`."""
        seen = self._local.last_seen(account_id)
        return seen is not None and (seen[0] is None or seen[0] > 0)

    async def refusal(self, account_id: str) -> GatewayError | None:
        """Ask Redis, see `ports.AccountCredit`. Who asks at the same time shares one answer."""
        reading = self._reading.get(account_id)
        if reading is None:
            reading = asyncio.create_task(self._read(account_id), name="account-credit")
            self._reading[account_id] = reading
            reading.add_done_callback(lambda done: self._ended(account_id, done))
        credit = await asyncio.shield(reading)
        if credit is None:
            return self._refusal_without_redis(account_id)
        balance = credit.balance_nanousd
        if balance is None or balance > 0:
            return None
        self._count(LimitName.CREDIT.value)
        return used_up_error(balance, top_up=self._top_up)

    async def aclose(self) -> None:
        """End what is under way. Idempotent."""
        tasks = list(self._reading.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _refusal_without_redis(self, account_id: str) -> GatewayError | None:
        if self._local.last_seen(account_id) is None:
            return None  # the reservation decides
        self._count("unavailable")
        return GatewayError(
            ErrorKind.STORE_UNAVAILABLE,
            "Limits and credit cannot be checked at the moment. Retry shortly.",
            retry_after_s=1.0,
        )

    def _ended(self, account_id: str, task: asyncio.Task[_Credit | None]) -> None:
        del self._reading[account_id]
        if not task.cancelled():
            task.exception()  # its callers have it, or have gone

    async def _read(self, account_id: str) -> _Credit | None:
        """Return an account's credit, compared with SQL now and then; None: Redis is away."""
        try:
            credit = await self._ask(account_id)
            if credit is None:
                await self._accounts.load(account_id)
                credit = await self._ask(account_id)
            elif _is_used_up(credit) and self._accounts.may_ask_again(account_id):
                await self._accounts.refresh(account_id)
                credit = await self._ask(account_id)
        except (RedisUnavailable, ReplyError):
            return None
        except GatewayError as error:
            if error.kind is not ErrorKind.STORE_UNAVAILABLE:
                raise
            return None
        if credit is not None:
            seen = LastSeen(credit.available_nanousd, credit.limits, credit.room_nanousd)
            self._local.saw(account_id, seen)
        return credit

    async def _ask(self, account_id: str) -> _Credit | None:
        """Return what Redis has of an account; None: nothing."""
        key = self._names.of(account_id).accounts + account_id.encode()
        reply = await self._bus.command(b"HMGET", key, *_FIELDS)
        limit, base, waiting, held, limits, running = cast("list[bytes | None]", reply)
        if limit is None:
            return None
        if limit == b"-1":
            return _Credit(None, None, limits or b"", None)
        balance = int(base or 0) + int(limit) - int(waiting or 0)
        room = None
        if not limit.startswith(b"+"):
            room = self._room(balance) - int(running or 0)
        return _Credit(balance, balance - int(held or 0), limits or b"", room)

    def _room(self, funds: int) -> int:
        """Return what all running calls together may cost, as `lua/reserve.lua` bounds it."""
        return funds + max(self._exposure_floor, math.floor(self._exposure_share * funds))


def _is_used_up(credit: _Credit) -> bool:
    return credit.balance_nanousd is not None and credit.balance_nanousd <= 0
