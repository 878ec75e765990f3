"""
The gateway's Redis client beside redis-py and valkey-glide: CPU and latency of one worker.

    python -m bench.micro.bus_clients [--calls N] [--rounds N]

Each sends the same script, which reads and writes one hash, to a Valkey of its own over TCP on the
loopback interface, from 1, 16 and 256 coroutines at once. Prints the microseconds of CPU of this
process for a call (user and system, all threads), calls a second, and the median and 99th
percentile of the time of a call; medians of the rounds, which take turns. valkey-glide is measured
if it is installed: it is no dependency.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import resource
import time
from collections.abc import Awaitable, Callable
from statistics import median, quantiles
from typing import Any

import redis.asyncio
import uvloop

from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis, RedisLimits
from gateway.store.redis.scripts import lua_script
from tests.support.gateway_process import free_port
from tests.support.valkey import ValkeyProcess

AT_ONCE = (1, 16, 256)
SCRIPT = """
local fields = redis.call('HMGET', KEYS[1], 'a', 'b')
redis.call('HSET', KEYS[1], 'a', (tonumber(fields[1]) or 0) + 1, 'b', ARGV[1])
return {fields[1] or '0', ARGV[1]}
"""
Call = Callable[[str, str], Awaitable[object]]


def cpu_us() -> float:
    """The CPU that this process has used so far, in microseconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6


async def measured(call: Call, calls: int, at_once: int) -> tuple[float, float, float, float]:
    """Return CPU in us, calls a second, median and 99th percentile in ms."""
    times: list[float] = []

    async def lane(number: int, count: int) -> None:
        for n in range(count):
            began = time.perf_counter()
            await call(f"{{{number % 64}}}:hash", f"value-{n}")
            times.append(time.perf_counter() - began)

    await asyncio.gather(*[lane(number, 5) for number in range(at_once)])
    times.clear()
    cpu, began = cpu_us(), time.perf_counter()
    await asyncio.gather(*[lane(number, calls // at_once) for number in range(at_once)])
    took = time.perf_counter() - began
    done = len(times)
    hundredths = quantiles(times, n=100)
    return (cpu_us() - cpu) / done, done / took, hundredths[49] * 1e3, hundredths[98] * 1e3


async def own(port: int) -> tuple[Call, Callable[[], Awaitable[object]]]:
    """The gateway's client: one connection, commands of a loop turn in one write."""
    script = lua_script("bench", SCRIPT.encode())
    target = parse_address(f"redis://127.0.0.1:{port}")
    client = PipelinedRedis(target, RedisLimits(command_timeout_s=5), scripts=[script])
    await client.start()

    async def call(key: str, value: str) -> object:
        return await client.script(script, [key.encode()], [value.encode()])

    return call, client.aclose


async def redis_py(port: int) -> tuple[Call, Callable[[], Awaitable[object]]]:
    """redis-py with hiredis: a pool of connections, one command at a time on each."""
    pool = redis.asyncio.BlockingConnectionPool(port=port, max_connections=64)
    client = redis.asyncio.Redis(connection_pool=pool)
    script = client.register_script(SCRIPT)

    async def call(key: str, value: str) -> object:
        return await script(keys=[key], args=[value])

    return call, client.aclose


async def glide(port: int) -> tuple[Call, Callable[[], Awaitable[object]]]:
    """valkey-glide: one multiplexed connection in a Rust core, reached over a socket."""
    module: Any = importlib.import_module("glide")
    config = module.GlideClientConfiguration(
        [module.NodeAddress("127.0.0.1", port)], request_timeout=5000
    )
    client = await module.GlideClient.create(config)
    script = module.Script(SCRIPT)

    async def call(key: str, value: str) -> object:
        return await client.invoke_script(script, keys=[key], args=[value])

    return call, client.close


async def main(calls: int, rounds: int) -> None:
    """Measure all clients, and print a row for each number of coroutines."""
    port = free_port()
    server = ValkeyProcess("--port", str(port))
    server.start()
    clients = {"own": own, "redis-py": redis_py}
    if importlib.util.find_spec("glide"):
        clients["valkey-glide"] = glide
    opened = {name: await make(port) for name, make in clients.items()}
    try:
        print("| at once | client | CPU us | calls/s | p50 ms | p99 ms |")
        print("| ---: | --- | ---: | ---: | ---: | ---: |")
        for at_once in AT_ONCE:
            found: dict[str, list[tuple[float, ...]]] = {name: [] for name in opened}
            for _ in range(rounds):
                for name, (call, _) in opened.items():
                    found[name].append(await measured(call, calls, at_once))
            for name, results in found.items():
                cpu, rate, p50, p99 = (median(column) for column in zip(*results, strict=True))
                print(f"| {at_once} | {name} | {cpu:.0f} | {rate:.0f} | {p50:.2f} | {p99:.2f} |")
    finally:
        for _, close in opened.values():
            await close()
        server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Redis clients side by side, see the module.")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    uvloop.run(main(given.calls, given.rounds))
