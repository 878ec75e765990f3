"""
Shows what a worker does at twice its capacity: an open loop, with streams and probes beside it.

    python -m bench.overload [--seconds 60] [--factor 2] [--near 0.9] [--server TOML] [--unpinned]

One worker is pinned to the first core; mock upstream and load generator share the others. First a
closed loop finds the capacity. Then an open loop sends half of it (the reference), `--near` of it,
`--factor` times of it for `--seconds`, and half of it again (recovery). During the overload 20
streams run, and `/healthz` and `/readyz` are asked ten times a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from bench.harness.processes import pin, rss_mb
from bench.harness.requests import chat_request
from bench.harness.systems import gateway, mock_upstream
from bench.load import Connection, run
from bench.open_loop import BROKEN, OpenLoop, Phase, Sample
from tests.support.gateway_process import free_port

REFERENCE_S = 5.0
NEAR_S = 10.0
ENTRY_S = 1.0
"""In which an overload is found, and the queue from before it is served."""
RECOVERY_S = 5.0
WINDOW_S = 0.25
STREAMS = 20
BESIDE = """
idle_timeout_s = 75
max_in_flight_per_account = 100000
"""
"""
TOML of [server]: connections outlive the run, so that no request meets one that is being closed,
and the only account of the run stands for many.
"""


@dataclass
class Watch:
    """What is measured beside the load."""

    probes: list[Sample] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    """Between two reads of a stream that sends a chunk every 20 ms."""
    rss_mb: list[float] = field(default_factory=list)


class _Probe(Connection):
    """Requests a page on a connection of its own."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def _head(self, head: bytes) -> None:
        super()._head(head)
        took_s = time.perf_counter() - self.sent_at
        self._watch.probes.append(Sample(self.sent_at, took_s, self.status))
        self.close()


class _Stream(Connection):
    """Requests one stream, again if it is refused."""

    def __init__(self, request: bytes, watch: Watch) -> None:
        super().__init__()
        self._request = request
        self._watch = watch
        self._read_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._read_at is not None and self.status == 200:
            self._watch.gaps_s.append(now - self._read_at)
        self._read_at = now
        super().data_received(data)

    def completed(self) -> None:
        if self.status == 200:
            self.close()
        else:
            self._read_at = None
            asyncio.get_running_loop().call_later(0.1, self.send, self._request)


async def probe(port: int, watch: Watch) -> None:
    """Request both probes repeatedly, each on a new connection as a load balancer does."""
    loop = asyncio.get_running_loop()
    while True:
        for path in ("healthz", "readyz"):
            _, connection = await loop.create_connection(lambda: _Probe(watch), "127.0.0.1", port)
            connection.send(f"GET /{path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            await asyncio.sleep(0.1)


async def sample_memory(pids: list[int], watch: Watch) -> None:
    """Read the worker's resident size twice a second."""
    while True:
        watch.rss_mb.append(rss_mb(pids))
        await asyncio.sleep(0.5)


def percentile(seconds: Iterable[float], share: float) -> float:
    """Return a percentile in milliseconds; nan if there are no values."""
    ordered = sorted(seconds)
    if not ordered:
        return float("nan")
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


def recovered_after_s(phase: Phase, began_s: float, bound_s: float) -> float:
    """Return the end of the last window with a refusal, or with a p99 above the bound."""
    last = 0.0
    windows: dict[int, list[Sample]] = {}
    for sample in phase.samples:
        windows.setdefault(int((sample.due_s - began_s) / WINDOW_S), []).append(sample)
    for index, samples in windows.items():
        bad = any(sample.status != 200 for sample in samples)
        if bad or percentile((s.seconds for s in samples), 0.99) > bound_s * 1000:
            last = max(last, (index + 1) * WINDOW_S)
    return last


def line(name: str, phase: Phase, seconds: float) -> str:
    """Return one row of the report."""
    accepted = [s.seconds for s in phase.samples if s.status == 200]
    refused = [s.seconds for s in phase.samples if s.status in (503, 529)]
    others = Counter(
        BROKEN.get(s.status, str(s.status))
        for s in phase.samples
        if s.status not in (200, 503, 529)
    )
    return (
        f"{name:<10} {len(phase.samples) / seconds:7.0f} sent/s | "
        f"{len(accepted) / seconds:7.0f} accepted/s, "
        f"p50 {percentile(accepted, 0.5):6.1f} p99 {percentile(accepted, 0.99):7.1f} ms | "
        f"{len(refused) / seconds:7.0f} refused/s, "
        f"p50 {percentile(refused, 0.5):6.1f} p99 {percentile(refused, 0.99):7.1f} ms | "
        f"others {dict(others)}, {phase.unsent} unsent, "
        f"generator at most {phase.late_s * 1000:.0f} ms late"
    )


async def measure(
    port: int,
    payload: bytes,
    stream: bytes,
    workers: list[int],
    seconds: float,
    factor: float,
    near: float,
) -> None:
    """Run all phases and print what was seen."""
    await run(port, payload, connections=32, each=50)
    outcome = await run(port, payload, connections=32, each=400)
    capacity = outcome.requests / outcome.seconds
    print(f"capacity   {capacity:7.0f} calls/s (closed loop, 32 connections)", flush=True)
    load, watch = OpenLoop(port, payload), Watch()
    loop = asyncio.get_running_loop()
    reference = await load.run(capacity / 2, REFERENCE_S)
    print(line("reference", reference, REFERENCE_S), flush=True)
    full = await load.run(capacity * near, NEAR_S)
    print(line(f"{near:g} of it", full, NEAR_S), flush=True)
    for _ in range(STREAMS):
        await loop.create_connection(lambda: _Stream(stream, watch), "127.0.0.1", port)
    beside = [
        asyncio.create_task(probe(port, watch)),
        asyncio.create_task(sample_memory(workers, watch)),
    ]
    overload_s = time.perf_counter() - load.started_at
    overload = await load.run(capacity * factor, seconds)
    for task in beside[:1]:
        task.cancel()
    began_s = time.perf_counter() - load.started_at
    recovery = await load.run(capacity / 2, RECOVERY_S)
    beside[1].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*beside)
    await load.settle(30)
    load.close()
    print(line("overload", overload, seconds))
    settled = Phase([s for s in overload.samples if s.due_s - overload_s > ENTRY_S])
    print(line("from 1 s", settled, seconds - ENTRY_S))
    print(line("recovery", recovery, RECOVERY_S))
    usual_s = percentile((s.seconds for s in reference.samples), 0.99) / 1000
    recovered_s = recovered_after_s(recovery, began_s, 2 * usual_s + 0.02)
    print(f"recovered  {recovered_s:.2f} s after the overload")
    good = [s.seconds for s in watch.probes if s.status == 200]
    print(
        f"probes     {len(good)} of {len(watch.probes)} were 200, p50 {percentile(good, 0.5):.1f} "
        f"p99 {percentile(good, 0.99):.1f} ms"
    )
    print(
        f"streams    {len(watch.gaps_s)} reads, gap p50 {percentile(watch.gaps_s, 0.5):.1f} "
        f"p99 {percentile(watch.gaps_s, 0.99):.1f} max {percentile(watch.gaps_s, 1):.1f} ms"
    )
    print(f"memory     {watch.rss_mb[0]:.0f} MB before, {max(watch.rss_mb):.0f} MB at most")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--factor", type=float, default=2.0)
    parser.add_argument("--near", type=float, default=0.9, help="share of the capacity")
    parser.add_argument("--server", default="max_loop_lag_ms = 10", help="TOML of [server]")
    parser.add_argument("--unpinned", action="store_true", help="leave all processes on all cores")
    options = parser.parse_args()
    available = sorted(os.sched_getaffinity(0))
    worker_cores, load_cores = {available[0]}, set(available[1:]) or {available[0]}
    if options.unpinned:
        worker_cores = load_cores = set(available)
    os.sched_setaffinity(0, load_cores)
    server = options.server + BESIDE
    with tempfile.TemporaryDirectory() as directory:
        upstream_port = free_port()
        with (
            mock_upstream(upstream_port, load_cores),
            gateway(Path(directory), upstream_port, worker_cores, server) as (process, key),
        ):
            payload = chat_request(key, "short")
            stream = chat_request(key, "paced-500-20", stream=True)
            workers = process.workers()
            pin(workers, worker_cores)
            uvloop.run(
                measure(
                    process.port,
                    payload,
                    stream,
                    workers,
                    options.seconds,
                    options.factor,
                    options.near,
                )
            )


if __name__ == "__main__":
    main()
