"""Loads accounts from SQL into Redis: at their first call, after changes, and periodically."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import redis.asyncio

from gateway.core.calendar import DAY_MS, month_of
from gateway.core.limits import NO_LIMITS
from gateway.errors import ErrorKind, GatewayError
from gateway.store.accounts.snapshot import AccountSnapshot, AccountSource, SpendScope
from gateway.store.hot_state.redis_schema import (
    ACCOUNT_SCOPE,
    RedisKeys,
    account_scripts,
    key_model_scope,
    key_scope,
    pack,
    scope_row,
)
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import Argument, ReplyError

ASK_AGAIN_S = 5.0
"""How often an account without credit is compared with SQL at most, per worker."""
_ATTEMPTS = 3
_REMEMBERED = 10_000
logger = logging.getLogger(__name__)


class AccountLoader:
    """
    Loads accounts for one worker.

    Args:
        bus: Redis.
        source: SQL.
        key_prefix: `redis.key_prefix`.
        clock: Monotonic seconds.
        now_ms: Unix milliseconds, for the day of budgets; None: the system's clock, and the
            server's clock in the script.
    """

    def __init__(
        self,
        bus: RedisBus,
        source: AccountSource,
        key_prefix: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._bus = bus
        self._source = source
        self._names = RedisKeys(key_prefix)
        self._script = account_scripts().load
        self._clock = clock
        self._now_ms = now_ms
        self._loads: dict[tuple[str, frozenset[SpendScope]], asyncio.Task[None]] = {}
        self._asked: dict[str, float] = {}

    async def load(self, account_id: str, scopes: Sequence[SpendScope] = ()) -> None:
        """
        Load an account into Redis; concurrent loads of the same account and scopes are shared.

        Args:
            account_id: Its id.
            scopes: The scopes whose spending budgets need.

        Raises:
            GatewayError: FORBIDDEN (there is no such account), STORE_UNAVAILABLE.
            RedisUnavailable, ReplyError: Redis did not store it.
        """
        key = (account_id, frozenset(scopes))
        task = self._loads.get(key)
        if task is None:
            task = asyncio.create_task(self._load(account_id, scopes), name="account-load")
            self._loads[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        await asyncio.shield(task)

    async def refresh(self, account_id: str) -> bool:
        """
        Load an account after a change; return False on failure.

        Then the change takes effect with the account's next booked call, its next call refused for
        lack of credit, or its periodic reload.
        """
        try:
            await self.load(account_id)
        except (GatewayError, RedisUnavailable, ReplyError) as error:
            logger.warning(
                "account_refresh_failed",
                extra={"account_id": account_id, "reason": type(error).__name__},
            )
            return False
        return True

    def refresh_soon(self, account_id: str) -> None:
        """Start a refresh without waiting for it."""
        key: tuple[str, frozenset[SpendScope]] = (account_id, frozenset())
        if key not in self._loads:
            task = asyncio.create_task(self._refresh(account_id), name="account-refresh")
            self._loads[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))

    def may_ask_again(self, account_id: str) -> bool:
        """Return True once every ASK_AGAIN_S per account: compare it with SQL now."""
        now = self._clock()
        if now - self._asked.get(account_id, -ASK_AGAIN_S) < ASK_AGAIN_S:
            return False
        if len(self._asked) >= _REMEMBERED:
            self._asked.clear()
        self._asked[account_id] = now
        return True

    async def aclose(self) -> None:
        """Cancel running loads. Idempotent."""
        tasks = list(self._loads.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, key: tuple[str, frozenset[SpendScope]], task: asyncio.Task[None]) -> None:
        del self._loads[key]
        if not task.cancelled():
            task.exception()  # mark as retrieved: all waiters may have been cancelled

    async def _refresh(self, account_id: str) -> None:
        try:
            await self._load(account_id, ())
        except (GatewayError, RedisUnavailable, ReplyError) as error:
            logger.warning(
                "account_refresh_failed",
                extra={"account_id": account_id, "reason": type(error).__name__},
            )

    async def _load(self, account_id: str, scopes: Sequence[SpendScope]) -> None:
        account = self._names.of(account_id).accounts + account_id.encode()
        for _ in range(_ATTEMPTS):
            now_ms = None if self._now_ms is None else self._now_ms()
            day = (_system_ms() if now_ms is None else now_ms) // DAY_MS
            month = month_of(day)
            state = await self._source.load(account_id, scopes, day=day, month=month)
            if state is None:
                raise GatewayError(ErrorKind.FORBIDDEN, "This key's account does not exist.")
            arguments = load_arguments(state, day=day, month=month, now_ms=now_ms)
            if await self._bus.script(self._script, [account], arguments) == 1:
                return
        raise GatewayError(
            ErrorKind.STORE_UNAVAILABLE,
            "The account cannot be checked at the moment. Retry shortly.",
            retry_after_s=1.0,
            detail="Redis has a newer position than SQL: was SQL restored from a backup?",
        )


async def push_account(
    client: redis.asyncio.Redis, key_prefix: str, source: AccountSource, account_id: str
) -> None:
    """
    Load an account after a change, from a process other than a worker.

    Raises:
        GatewayError: STORE_UNAVAILABLE.
        redis.exceptions.RedisError: Redis is unavailable: the workers will notice the change.
    """
    day = _system_ms() // DAY_MS
    month = month_of(day)
    state = await source.load(account_id, (), day=day, month=month)
    if state is None:
        return
    account = RedisKeys(key_prefix).of(account_id).accounts + account_id.encode()
    script = account_scripts().load.source.decode()
    arguments = load_arguments(state, day=day, month=month)
    await cast("Awaitable[object]", client.eval(script, 1, account, *arguments))


def load_arguments(
    state: AccountSnapshot, *, day: int, month: int, now_ms: int | None = None
) -> list[Argument]:
    """Return the ARGV of `lua/load.lua` for an account."""
    credit = state.credit_limit_nanousd
    limits = b"" if state.limits == NO_LIMITS else pack(scope_row(ACCOUNT_SCOPE, state.limits))
    arguments: list[Argument] = [
        b"" if now_ms is None else now_ms,
        state.position,
        state.balance_nanousd,
        state.version,
        -1 if credit is None else f"+{credit}" if state.trusted else credit,
        limits,
    ]
    for scope, spent in state.spent.items():
        arguments += (
            scope_name(scope),
            day,
            spent.day_nanousd,
            month,
            spent.month_nanousd,
            spent.total_nanousd,
        )
    return arguments


def scope_name(scope: SpendScope) -> str:
    """Return the name of a scope in the scripts."""
    if scope.key_id is None:
        return ACCOUNT_SCOPE
    if scope.model is None:
        return key_scope(scope.key_id)
    return key_model_scope(scope.key_id, scope.model)


def _system_ms() -> int:
    return time.time_ns() // 1_000_000
