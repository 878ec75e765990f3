"""
What people at the pages cost calls: the worker's CPU with and without 20 viewers, interleaved.

    python -m bench.console.viewers [--rounds 10]

Two gateways of one worker run beside each other, one without a console. Rounds of load alternate
between them. The viewers look at usage, live pages and a CSV through the worker of the other one;
they and its console are stopped while the gateway without a console is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench.harness.processes import cpu_s, pin
from bench.harness.requests import chat_request
from bench.harness.systems import config, mock_upstream
from bench.load import Connection, Outcome, run
from gateway.settings import Server, Settings
from gateway.store.accounts.accounts import Accounts, Billing, Terms
from gateway.store.accounts.audit import SYSTEM
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.people.sessions import Lifetimes, Sessions
from gateway.store.people.users import Users
from gateway.store.sql.database import Database
from tests.support.gateway_process import GatewayProcess, free_port

MOST_SHARE = 0.02
LIVE, USAGE, CSV = 9, 9, 2
"""How many viewers look at each."""
PAUSE_S = {"usage": 3.0, "csv": 10.0}


class Load(NamedTuple):
    """One load, named after the upstream's behaviour; CPU is divided by requests or chunks."""

    name: str
    connections: int
    each: int
    units_per_request: int
    stagger_s: float = 0.0


LOADS = (
    Load("short", 32, 200, 1),
    Load("burst-100", 16, 40, 100),
    Load("paced-100-20", 100, 1, 100, stagger_s=0.5),
)


class Gateway(NamedTuple):
    """One of the two, and a key of its account."""

    process: GatewayProcess
    key: str
    token: str
    """Of an operator's session."""


class Measured(NamedTuple):
    """One round."""

    cpu_us: float
    gap_p99_ms: float
    failures: int


class Gaps(Connection):
    """Sends one streaming request and notes the times between its chunks."""

    def __init__(self, payload: bytes, gaps: list[float]) -> None:
        super().__init__()
        self._payload, self._gaps, self._last = payload, gaps, 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        self.send(self._payload)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._last:
            self._gaps.append(now - self._last)
        self._last = now
        super().data_received(data)

    def completed(self) -> None:
        self.close()
        if not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("closed early"))


def main() -> int:
    """Print a table; 1 if viewers cost more than allowed."""
    parser = argparse.ArgumentParser(description="Measure what viewers cost calls.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--watch", nargs=2, metavar=("PORT", "TOKEN"), help="be the viewers")
    options = parser.parse_args()
    if options.watch:
        uvloop.run(watch(int(options.watch[0]), options.watch[1]))
        return 0
    available = sorted(os.sched_getaffinity(0))
    own, others = {available[0]}, set(available[1:]) or {available[0]}
    os.sched_setaffinity(0, others)
    upstream_port = free_port()
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        stack.enter_context(mock_upstream(upstream_port, others))
        off = stack.enter_context(gateway(Path(home) / "off", upstream_port, own, console=False))
        on = stack.enter_context(gateway(Path(home) / "on", upstream_port, own, console=True))
        on.process.wait_console()
        viewers = stack.enter_context(viewing(on))
        time.sleep(3)
        return compare(on, off, viewers, options.rounds)


@contextmanager
def gateway(home: Path, upstream_port: int, cores: set[int], *, console: bool) -> Iterator[Gateway]:
    extra = f"[console]\nenabled = {str(console).lower()}\nport = {free_port()}\n"
    process = GatewayProcess(home, config(upstream_port), workers=1, extra=extra)
    try:
        process.start()
        key, token = asyncio.run(_people(process))
        pin(process.workers(), cores)
        yield Gateway(process, key, token)
    finally:
        process.stop()


async def _people(process: GatewayProcess) -> tuple[str, str]:
    """Make an account with a key, and sign an operator in; return the key and the session."""
    database = Database(Settings(server=Server(data_dir=str(process.data_dir))))
    account = await Accounts(database).create("bench", Terms(Billing.POSTPAID))
    made = await Keys(database, "sk-capio-live-").create(account.id, KeyDetails(name="bench"))
    users = Users(database)
    user = await users.create("bench", "Bench", is_operator=True)
    await users.join(user.id, account.id, "owner", SYSTEM)
    token = await Sessions(database, Lifetimes(86_400, 86_400)).begin(user, "bench")
    await database.aclose()
    return made.raw, token


@contextmanager
def viewing(on: Gateway) -> Iterator[subprocess.Popen[bytes]]:
    """Run the viewers in a process of their own."""
    module = [sys.executable, "-m", "bench.console.viewers"]
    command = [*module, "--watch", str(on.process.port), on.token]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def compare(on: Gateway, off: Gateway, viewers: subprocess.Popen[bytes], rounds: int) -> int:
    """Alternate between the two gateways and print medians; return 1 above the budget."""
    console = [pid for pid, line in on.process.children().items() if "gateway.console" in line]
    pids = [viewers.pid, *console]
    failed = 0
    print(f"{LIVE + USAGE + CSV} viewers, {rounds} rounds of each\n")
    print(
        "| load | console off, CPU us | with viewers, CPU us | difference | gap p99 ms, off / on |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    for load in LOADS:
        measured: dict[bool, list[Measured]] = {True: [], False: []}
        for number in range(2 * rounds + 2):
            # off, on, on, off, ...: what drifts is shared out evenly.
            is_on = number % 4 in (1, 2)
            for pid in pids:
                os.kill(pid, signal.SIGCONT if is_on else signal.SIGSTOP)
            if is_on:
                time.sleep(0.3)
            found = measure(load, on if is_on else off)
            if number > 1:  # the first of each warms up
                measured[is_on].append(found)
        failed += _report(load.name, measured)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    return int(failed > 0)


def _report(name: str, measured: dict[bool, list[Measured]]) -> bool:
    off, on = (statistics.median(each.cpu_us for each in measured[key]) for key in (False, True))
    gaps = [statistics.median(each.gap_p99_ms for each in measured[key]) for key in (False, True)]
    failures = sum(each.failures for found in measured.values() for each in found)
    share = on / off - 1
    print(
        f"| {name} | {off:.1f} | {on:.1f} | {share:+.1%} | {gaps[0]:.1f} / {gaps[1]:.1f} |"
        + (f" {failures} failures" if failures else ""),
        flush=True,
    )
    return share > MOST_SHARE or failures > 0


def measure(load: Load, target: Gateway) -> Measured:
    """Run a load once."""
    payload = chat_request(target.key, load.name, stream=load.units_per_request > 1)
    workers, port = target.process.workers(), target.process.port
    uvloop.run(run(port, payload, connections=8, each=1))
    before = cpu_s(workers)
    gaps: list[float] = []
    if load.stagger_s:
        outcome = uvloop.run(paced(port, payload, load, gaps))
    else:
        outcome = uvloop.run(run(port, payload, connections=load.connections, each=load.each))
    used = cpu_s(workers) - before
    units = max(outcome.requests * load.units_per_request, 1)
    gaps.sort()
    p99 = gaps[len(gaps) * 99 // 100] * 1000 if gaps else 0.0
    return Measured(used / units * 1e6, p99, outcome.failures)


async def paced(port: int, payload: bytes, load: Load, gaps: list[float]) -> Outcome:
    """Open one stream on each connection, one after the other."""
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(load.connections):
        _, stream = await loop.create_connection(lambda: Gaps(payload, gaps), "127.0.0.1", port)
        stream.start()
        made.append(stream)
        await asyncio.sleep(load.stagger_s / load.connections)
    ends = await asyncio.gather(*(each.done for each in made), return_exceptions=True)
    failures = sum(
        each.status != 200 or end is not None for each, end in zip(made, ends, strict=True)
    )
    return Outcome(requests=len(made), failures=failures)


async def watch(port: int, token: str) -> None:
    """Look at pages until killed."""
    async with asyncio.TaskGroup() as viewers:
        for _ in range(LIVE):
            viewers.create_task(_look(port, token, "/admin-ui/live/events", 1.0))
        for _ in range(USAGE):
            viewers.create_task(_look(port, token, "/app/usage", PAUSE_S["usage"]))
        for _ in range(CSV):
            path = "/app/requests?format=csv"
            viewers.create_task(_look(port, token, path, PAUSE_S["csv"]))


async def _look(port: int, token: str, path: str, pause_s: float) -> None:
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncookie: session={token}\r\n"
                "accept: text/html\r\nconnection: close\r\n\r\n".encode()
            )
            status = (await reader.readline()).split()[1:2]
            if status != [b"200"]:
                print(f"{path}: {status}", file=sys.stderr)
            while await reader.read(65_536):
                pass
            writer.close()
        except OSError as error:
            print(f"{path}: {error}", file=sys.stderr)
        await asyncio.sleep(pause_s)


if __name__ == "__main__":
    sys.exit(main())
