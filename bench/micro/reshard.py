"""
Calls over a cluster while its slots move and its masters are killed, compared with the charges.

Three masters with a replica each, two workers and a ledger writer in this process. In turns, the
slots of some shards move to another master, and a master is killed with signal 9, replaced by its
replica, and started again. Exits with 1 if a call was lost or doubled, or a hold is left.

    python -m bench.micro.reshard [--seconds 120] [--seed 1]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from redis.crc import key_slot

from tests.support.cluster_money import ACCOUNTS, ClusterMoney
from tests.support.redis_cluster import RedisCluster, Server
from tests.support.waiting import wait_until

CLIENTS = 6
SETTLED_S = 60
MOVED_AT_ONCE = 5


class Weather:
    """What happens to the cluster."""

    def __init__(self, cluster: RedisCluster, money: ClusterMoney, seed: int) -> None:
        self._cluster = cluster
        self._money = money
        self._random = random.Random(seed)
        self._shards = sorted({money.names.of(account_id).shard for account_id in ACCOUNTS})
        self.events: Counter[str] = Counter()

    async def blow(self, until: float) -> None:
        """Move and kill in turns until `until`, monotonic seconds."""
        while time.monotonic() < until:
            for shard in self._random.sample(self._shards, MOVED_AT_ONCE):
                await asyncio.to_thread(self._move, shard)
                self.events["moved slots"] += 1
            await asyncio.sleep(1)
            await self._kill()
            self.events["killed masters"] += 1

    def _move(self, shard: int) -> None:
        key = self._money.names.shards[shard].calls
        old = self._cluster.owner_of(key)
        others = [each for each in self._masters() if each is not old]
        self._cluster.move(key_slot(key), old, self._random.choice(others), pause_s=0.02)

    def _masters(self) -> list[Server]:
        shards = self._money.names.shards
        owners = [self._cluster.owner_of(names.calls) for names in shards]
        return list(dict.fromkeys(owners))

    async def _kill(self) -> None:
        masters = await asyncio.to_thread(self._masters)
        lost = self._random.choice(masters)
        lost.process.kill()

        async def is_replaced() -> bool:
            return lost not in await asyncio.to_thread(self._masters)

        await wait_until(is_replaced, 30)
        await asyncio.sleep(1)
        await asyncio.to_thread(lost.process.start)
        await asyncio.to_thread(self._cluster.wait_until_synced)
        await asyncio.sleep(1)


async def run(seconds: float, seed: int) -> bool:
    """Run, print what was found, and return whether nothing was."""
    cluster = RedisCluster()
    with tempfile.TemporaryDirectory() as home:
        money = ClusterMoney(cluster, Path(home), seed)
        weather = Weather(cluster, money, seed)
        try:
            await money.start(CLIENTS)
            await weather.blow(time.monotonic() + seconds)
            await money.stop()
            with contextlib.suppress(AssertionError):  # what is left is printed
                await wait_until(money.settled, SETTLED_S)
            differences, left = money.differences(), await money.leftovers()
        finally:
            await money.stop()
            await money.close()
            cluster.close()
    print(f"{len(money.costs)} calls of {len(ACCOUNTS)} accounts; {dict(weather.events)}")
    print(f"refused: {dict(money.refused)}")
    print(f"calls or balances that differ: {len(differences)}; holds and events left: {len(left)}")
    for name, found in [*differences.items(), *left.items()][:20]:
        print(f"  {name}: {found}")
    return not differences and not left


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.exit(0 if asyncio.run(run(arguments.seconds, arguments.seed)) else 1)


if __name__ == "__main__":
    main()
