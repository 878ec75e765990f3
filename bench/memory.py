"""
Shows what a worker's memory does under many open streams, and after all of them have ended at once.

    python -m bench.memory [--streams 1000 --streams 5000] [--pace-ms 1000] [--rest 30]

For each number of streams, in one gateway with one worker: opens them, waits until each has got a
chunk, reads the worker's private memory, closes all connections at once, and reads it again when
the calls are settled and after `--rest` seconds. The first line is the idle worker. Private memory
is what ends with the process (`Private_Clean` + `Private_Dirty` of `smaps_rollup`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import uvloop

from bench.harness.processes import private_mb
from bench.harness.requests import chat_request
from bench.harness.systems import config, create_key, mock_upstream
from bench.load import Connection
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.waiting import wait_until

OPEN_S = 120.0
AT_ONCE = 100
"""Connections that are opened without waiting for the chunks of earlier ones."""


class Held(Connection):
    """A stream that is read until its connection is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def first_bytes(self) -> None:
        if not self.began.done():
            self.began.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.began.done():
            self.began.set_exception(error or ConnectionError("closed before the first chunk"))


async def hold(port: int, payload: bytes, count: int) -> list[Held]:
    """Open `count` streams; return them when each has got its first chunk."""
    loop = asyncio.get_running_loop()
    held: list[Held] = []
    async with asyncio.timeout(OPEN_S):
        while len(held) < count:
            part = min(AT_ONCE, count - len(held))
            opened = [
                (await loop.create_connection(Held, "127.0.0.1", port))[1] for _ in range(part)
            ]
            for connection in opened:
                connection.send(payload)
            await asyncio.gather(*(connection.began for connection in opened))
            held += opened
    statuses = Counter(connection.status for connection in held)
    if set(statuses) != {200}:
        raise SystemExit(f"not all streams were opened: {dict(statuses)}")
    return held


def running(process: GatewayProcess) -> float:
    """Return how many calls the gateway's metrics count as running."""
    found = re.findall(r"^gateway_in_flight_calls(?:{[^}]*})? (\S+)", process.metrics(), re.M)
    return sum(float(value) for value in found)


async def cycle(process: GatewayProcess, payload: bytes, streams: int, rest_s: float) -> None:
    """Hold streams, close them at once, and print the worker's memory at each step."""
    workers = process.workers()
    before = private_mb(workers)
    held = await hold(process.port, payload, streams)
    await asyncio.sleep(3)
    full = private_mb(workers)
    each = (full - before) / streams * 1000
    print(f"{streams} streams: {full:.1f} MB, {each:.1f} KB a stream", flush=True)
    closed_at = time.monotonic()
    for connection in held:
        connection.close()
    await wait_until(lambda: not running(process), timeout_s=OPEN_S)
    settled = time.monotonic() - closed_at
    print(f"  settled after {settled:.1f} s: {private_mb(workers):.1f} MB", flush=True)
    await asyncio.sleep(rest_s)
    print(f"  after {rest_s:.0f} s more: {private_mb(workers):.1f} MB", flush=True)


def main() -> None:
    """Measure each number of streams in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, action="append")
    parser.add_argument("--pace-ms", type=int, default=1000)
    parser.add_argument("--rest", type=float, default=30.0)
    options = parser.parse_args()
    counts: list[int] = options.streams or [1000, 5000]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    model = f"paced-1000000-{options.pace_ms}"
    upstream_port = free_port()
    most = max(counts) + 100
    server = f"max_in_flight = {2 * most}\nmax_in_flight_per_account = {most}\n"
    server += f"max_connections = {most}\n"
    with (
        tempfile.TemporaryDirectory() as home,
        mock_upstream(upstream_port, os.sched_getaffinity(0)),
    ):
        text = config(upstream_port, (model,), f"max_connections = {most}")
        process = GatewayProcess(Path(home), text, workers=1, server=server, forked=False)
        try:
            process.start()
            payload = chat_request(create_key(process), model, stream=True)
            time.sleep(3)
            print(f"idle: {private_mb(process.workers()):.1f} MB", flush=True)
            for streams in counts:
                uvloop.run(cycle(process, payload, streams, options.rest))
        finally:
            process.stop()


if __name__ == "__main__":
    main()
