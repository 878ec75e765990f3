"""Calls of many accounts over a cluster that changes, compared with what was run."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

from gateway.core.limits import KeyLimits
from gateway.core.model import Usage
from gateway.errors import GatewayError
from gateway.settings import Money
from gateway.store.hot_state.redis_schema import RedisKeys
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import RedisLimits
from gateway.store.redis.cluster.kinds import cold_client
from tests.support.metering import FakeLedger, FakeSql, MeteringWorker, ask_for
from tests.support.redis_cluster import RedisCluster

ACCOUNTS = tuple(f"acct_{number}" for number in range(24))
BALANCE = 10**9
CONCURRENCY = 4
LIMITS = RedisLimits(command_timeout_s=2.0, backoff_longest_s=0.1, cooldown_s=0.1)
MONEY = Money(lease_s=6.0, renew_s=1.0)


class ClusterMoney:
    """Two workers and a ledger writer on a cluster, and what their calls cost."""

    def __init__(self, cluster: RedisCluster, home: Path, seed: int = 1) -> None:
        self.cluster = cluster
        self.sql = FakeSql()
        for account_id in ACCOUNTS:
            self.sql.put(account_id, balance=BALANCE)
        self.workers = [
            MeteringWorker(
                cluster.url, self.sql, home / name, money=MONEY, limits=LIMITS, notices_returns=True
            )
            for name in ("a", "b")
        ]
        self.ledger = FakeLedger(cluster.url, self.sql)
        self.names = RedisKeys("capio:")
        self.costs: dict[str, tuple[str, int]] = {}
        """What ran: request id -> account and cost."""
        self.refused: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        """The most calls of an account that ran at once."""
        self._random = random.Random(seed)
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, clients: int = 3) -> None:
        """Begin: some clients of each account, all calling all the time."""
        for worker in self.workers:
            await worker.start()
            worker.metering.start()
        self._tasks = [
            asyncio.create_task(self._call_forever(account_id, index))
            for account_id in ACCOUNTS
            for index in range(clients)
        ]
        self._tasks.append(asyncio.create_task(self._book_forever()))

    async def stop(self) -> None:
        """Let the calls end, then book until nothing waits."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        for worker in self.workers:
            await worker.metering.journal.settlements.drain()

    async def close(self) -> None:
        for worker in self.workers:
            await worker.close()
        await self.ledger.close()

    async def settled(self) -> bool:
        """Book what waits; return whether SQL has every call, and Redis no hold and no event."""
        await self.ledger.book()
        return not self.differences() and not await self.leftovers()

    def differences(self) -> dict[str, object]:
        """Return the calls whose charge is not what they cost, and wrong balances."""
        booked = {
            name: (call.account_id, call.cost_nanousd) for name, call in self.sql.calls.items()
        }
        found: dict[str, object] = {
            name: (cost, booked.get(name))
            for name, cost in self.costs.items()
            if booked.get(name) != cost
        }
        # A call that was refused here may have been admitted by a script without a reply.
        found |= {name: each for name, each in booked.items() if name not in self.costs and each[1]}
        for account_id in ACCOUNTS:
            cost = sum(cost for owner, cost in self.costs.values() if owner == account_id)
            if self.sql.balance(account_id) != BALANCE - cost:
                found[account_id] = (BALANCE - cost, self.sql.balance(account_id))
        return found

    async def leftovers(self) -> dict[str, object]:
        """Return holds, pending sums and events that are left in Redis."""
        client = cold_client(parse_address(self.cluster.url))
        found: dict[str, object] = {}
        try:
            for account_id in ACCOUNTS:
                key = self.names.of(account_id).accounts + account_id.encode()
                fields: dict[Any, Any] = await client.hgetall(key)
                for name, value in fields.items():
                    if (name[:1] in b"nhw" or name == b"pend") and value != b"0":
                        found[f"{account_id} {name.decode()}"] = value
            for names in self.names.shards:
                if waiting := await client.xlen(names.usage):
                    found[f"shard {names.shard}"] = waiting
        finally:
            await client.aclose()
        return found

    async def _call_forever(self, account_id: str, index: int) -> None:
        limits = KeyLimits(concurrency=CONCURRENCY)
        while not self._stop.is_set():
            worker = self._random.choice(self.workers)
            asked = ask_for(account_id=account_id, limits=limits, key_id=f"key_{account_id}")
            try:
                reservation = await worker.reserve(asked)
            except GatewayError as error:
                self.refused[error.kind.value] += 1
                await asyncio.sleep(0.05)
                continue
            self.running[account_id] += 1
            self.most[account_id] = max(self.most[account_id], self.running[account_id])
            await asyncio.sleep(self._random.uniform(0.0, 0.05))
            usage = Usage(input=index + 1, output=self._random.randrange(20))
            event = await worker.settle_soon(reservation, usage)
            self.running[account_id] -= 1
            self.costs[event.request_id] = (account_id, event.cost_nanousd)

    async def _book_forever(self) -> None:
        while not self._stop.is_set():
            await self.ledger.book()
            await asyncio.sleep(0.05)
