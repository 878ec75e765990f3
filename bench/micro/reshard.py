"""
Settle a call while Redis Cluster moves its account's key to another master, and show the account.

The gateway refuses clusters; here the check is switched off. Of the keys of the account's shard
only the account itself has moved: MIGRATE may take keys in any order.

    python -m bench.micro.reshard             # as the scripts are: account keys are not declared
    python -m bench.micro.reshard declared    # with the account's key among the KEYS of `settle`
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import redis.asyncio
from redis.crc import key_slot

from gateway.core.model import Usage
from gateway.store.hot_state.redis_schema import RedisKeys
from gateway.store.redis import connection
from gateway.store.redis.batches import Header
from gateway.store.usage.settlements import Settlements
from tests.support.gateway_process import free_port
from tests.support.metering import MeteringWorld, event_for
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

ACCOUNT = "acct_1"
SLOTS = 16384
FIELDS = {"n": "running calls", "h": "held", "w": "worst case", "pend": "charged, not in SQL"}


class Master:
    """A Valkey in cluster mode on a TCP port."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process = ValkeyProcess("--port", str(self.port), "--cluster-enabled", "yes")
        self._process.start()
        self._client = redis.asyncio.Redis(port=self.port, decode_responses=True)
        self.command: Callable[..., Awaitable[Any]] = self._client.execute_command

    async def close(self) -> None:
        await self._client.aclose()
        self._process.close()


async def is_whole(master: Master) -> bool:
    return (await master.command("CLUSTER INFO"))["cluster_state"] == "ok"


async def join(old: Master, new: Master) -> None:
    await old.command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
    bus_port = (await new.command("CONFIG GET", "cluster-port"))["cluster-port"]
    await old.command("CLUSTER MEET", "127.0.0.1", new.port, bus_port)
    for master in (old, new):
        await wait_until(partial(is_whole, master))


async def begin_reshard(old: Master, new: Master, key: bytes) -> None:
    """Move one key, and leave its slot as it is in the middle of a reshard."""
    slot = key_slot(key)
    await new.command("CLUSTER SETSLOT", slot, "IMPORTING", await old.command("CLUSTER MYID"))
    await old.command("CLUSTER SETSLOT", slot, "MIGRATING", await new.command("CLUSTER MYID"))
    await old.command("MIGRATE", "127.0.0.1", new.port, key, 0, 1000)


def declare_account() -> None:
    """Add the account to the keys of `settle`, whose only account it is."""
    header = Settlements._header

    def with_account(self: Settlements, shard: int) -> Header:
        keys, arguments = header(self, shard)
        account = self._names.shards[shard].accounts + ACCOUNT.encode()
        return Header((*keys, account), arguments)

    mock.patch.object(Settlements, "_header", with_account).start()


async def settle_amid_reshard(old: Master, new: Master, home: Path) -> None:
    world = MeteringWorld(f"redis://127.0.0.1:{old.port}", home)
    names = RedisKeys(world.prefix).of(ACCOUNT)
    account = names.accounts + ACCOUNT.encode()
    await world.worker.start()
    world.sql.put()
    await world.run(Usage(input=10, output=5))  # so that the shard has all its keys
    held = await world.reserve(input_tokens=10, max_tokens=20)
    await begin_reshard(old, new, account)
    await world.worker.settle(held, Usage(input=10, output=5))

    cost = event_for(held.request, Usage(input=10, output=5)).cost_nanousd
    known = await old.command("HEXISTS", names.calls, held.request.request_id)
    queued = await old.command("XLEN", names.usage) > 1
    print(f"two calls of {cost} nano-dollars, the second settled during the move;")
    print(f"it is {'known' if known else 'unknown'} on the old master,")
    print(f"its event is {'in' if queued else 'not in'} the stream; the account on the new master:")
    await new.command("ASKING")
    fields = await new.command("HGETALL", account)
    print(", ".join(f"{label} {fields.get(name, 0)}" for name, label in FIELDS.items()))


async def main(*, declared: bool) -> None:
    mock.patch.object(connection, "refusal", lambda _: None).start()
    if declared:
        declare_account()
    old, new = Master(), Master()
    with tempfile.TemporaryDirectory() as home:
        try:
            await join(old, new)
            await settle_amid_reshard(old, new, Path(home))
        finally:
            await old.close()
            await new.close()


if __name__ == "__main__":
    asyncio.run(main(declared="declared" in sys.argv[1:]))
