"""
Three pods under load, while they and their stores are restarted, killed and taken away.

    python -m tests.pods.run [--seconds 30] [--redis single|sentinel|cluster]
        [--proxy haproxy|nginx]

Each scenario runs under calls of both SDKs through the load balancer. Its line says what clients
got and what SQL holds; every difference from the upstream's record is printed.
`tests/pods/test_fleet.py` is the short form.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import openai

from gateway.demo.app import DemoUpstream
from gateway.demo.record import Record
from tests.pods.audit import WHOLE, Audit, Row, compare, read_rows
from tests.pods.fleet import ClusteredRedis, Fleet, Redis, SentinelRedis, SingleRedis
from tests.process.chaos.clients import MODEL, Clients, Outcome, is_protocol_error
from tests.process.chaos.run import expected_text
from tests.support.waiting import wait_until

AWAY_S = 4.0
"""How long a store is away."""
BEFORE_S = 0.5
"""Load before each disturbance."""
AFTER_S = 1.5
SETTLE_S = 40.0
POLL_S = 0.2
CUT = "cut after some text"
PER_MINUTE = 60
AT_ONCE = 4


def steady(fleet: Fleet, seconds: float) -> None:
    """Nothing happens."""
    time.sleep(seconds)


def roll(fleet: Fleet, seconds: float) -> None:
    """All pods are replaced, one by one."""
    fleet.roll()


def kill_pod(fleet: Fleet, seconds: float) -> None:
    """A pod is killed and started again."""
    fleet.kill_pod(fleet.pods[0])
    time.sleep(seconds / 4)
    fleet.pods[0].start()


def kill_redis(fleet: Fleet, seconds: float) -> None:
    """The Redis that takes writes is killed; it comes back, or its replica takes over."""
    fleet.redis.kill()
    time.sleep(min(AWAY_S, seconds))
    fleet.redis.revive()


def kill_postgres(fleet: Fleet, seconds: float) -> None:
    """PostgreSQL is killed and started again."""
    fleet.postgres.kill()
    time.sleep(min(AWAY_S, seconds))
    fleet.postgres.start()


def scale_down(fleet: Fleet, seconds: float) -> None:
    """While Redis is away a pod is stopped with SIGTERM, and its disk is lost."""
    fleet.redis.kill()
    time.sleep(min(AWAY_S, seconds) / 2)
    fleet.stop_pod(fleet.pods[-1])
    fleet.redis.revive()
    fleet.pods[-1].start()


def reshard(fleet: Fleet, seconds: float) -> None:
    """The slots of all shards move to other masters."""
    assert isinstance(fleet.redis, ClusteredRedis)
    fleet.redis.reshard()


SCENARIOS: dict[str, Callable[[Fleet, float], None]] = {
    "steady": steady,
    "rolling restart": roll,
    "pod killed": kill_pod,
    "Redis killed": kill_redis,
    "PostgreSQL killed": kill_postgres,
    "scale-down without Redis": scale_down,
    "slots moved": reshard,
}
PLAYED: dict[str, tuple[Callable[[], Redis], list[str]]] = {
    "single": (SingleRedis, [name for name in SCENARIOS if name != "slots moved"]),
    "sentinel": (SentinelRedis, ["steady", "rolling restart", "Redis killed"]),
    "cluster": (ClusteredRedis, ["steady", "rolling restart", "Redis killed", "slots moved"]),
}
"""For each form of Redis, how it is started and the scenarios."""
UNHARMED = ("steady", "rolling restart", "PostgreSQL killed")
"""Scenarios in which no call may fail."""


@dataclass
class Shown:
    """What one scenario has shown."""

    name: str
    whole: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """The errors of the others by kind."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of the rows."""
    differences: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return a row of the table."""
        ended = ", ".join(f"{count} {kind}" for kind, count in self.ended.items()) or "none"
        rows = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items())
        wrong = len(self.differences) or "none"
        return f"| {self.name} | {self.whole} | {ended} | {rows} | {wrong} |"


class Run:
    """
    Plays scenarios on one fleet.

    Args:
        fleet: Started.
        upstream: The fleet's upstream.
        seconds: How long the load of a scenario lasts at least.
    """

    def __init__(self, fleet: Fleet, upstream: DemoUpstream, seconds: float) -> None:
        self.fleet = fleet
        self._upstream = upstream
        self._seconds = seconds
        self._seen: set[str] = set()
        self._seed = 0

    async def play(self, name: str, key: str) -> Shown:
        """Play one scenario under load, and compare what was recorded."""
        self._seed += 1
        clients = Clients(self.fleet.balancer.url, key, self._seed)
        act = SCENARIOS[name]
        disturbance = asyncio.create_task(self._disturb(act))
        load = asyncio.create_task(clients.run(self._seconds))
        await disturbance
        await load
        shown = Shown(name)
        _judge(clients.outcomes, shown)
        await self._settle(shown)
        return shown

    async def _disturb(self, act: Callable[[Fleet, float], None]) -> None:
        await asyncio.sleep(BEFORE_S)
        await asyncio.to_thread(act, self.fleet, self._seconds - BEFORE_S - AFTER_S)

    async def _settle(self, shown: Shown) -> None:
        """
        Compare all that was recorded so far until nothing differs, for at most `SETTLE_S`.

        A call without a response may have a row that comes in the next scenario: its pod was killed
        before it was admitted, or another one has yet to settle it.
        """
        rows: list[Row] = []
        audit = Audit()

        async def agree() -> bool:
            nonlocal audit
            await asyncio.sleep(POLL_S)
            rows[:] = await asyncio.to_thread(read_rows, self.fleet.sql_url)
            audit = compare(rows, self._upstream.record.served())
            new = [each for each in rows if each.request_id not in self._seen]
            shown.outcomes = Counter(each.outcome for each in new)
            whole = sum(shown.outcomes[name] for name in WHOLE)
            awaited = shown.whole + shown.ended[CUT]
            return not audit.differences and whole >= shown.whole and len(new) >= awaited

        try:
            await wait_until(agree, SETTLE_S)
        except AssertionError:
            if not audit.differences:
                audit.differences.append(f"rows are missing: {shown.line()}")
        shown.differences += audit.differences
        self._seen.update(each.request_id for each in rows)

    async def limits(self) -> dict[str, tuple[int, int, int]]:
        """
        Send more calls than a key may, through all pods.

        Returns:
            For each limit what was admitted, and at least and at most what it allows.
        """
        made = {}
        for name, flag in (("minute", "--rpm"), ("at once", "--concurrency")):
            key_id, key = await asyncio.to_thread(self.fleet.new_key, name)
            value = PER_MINUTE if name == "minute" else AT_ONCE
            arguments = ("limits", "set", "--key", key_id, flag, str(value))
            await asyncio.to_thread(self.fleet.capio, *arguments)
            made[name] = key
        began_at = time.monotonic()
        admitted = await self._admitted(made["minute"], 3 * PER_MINUTE, "/tokens 1")
        refilled = int((time.monotonic() - began_at) * PER_MINUTE / 60) + 1
        running = await self._admitted(made["at once"], 10 * AT_ONCE, "/tokens 600")
        await wait_until(lambda: self._upstream.record.served()[-1].ending != "running", 30)
        return {
            "per minute": (admitted, PER_MINUTE, PER_MINUTE + refilled),
            "at once": (running, AT_ONCE, AT_ONCE),
        }

    async def _admitted(self, key: str, count: int, prompt: str) -> int:
        url = f"{self.fleet.balancer.url}/v1"

        async def call(client: openai.AsyncOpenAI, number: int) -> bool:
            content = f"{number}\n{prompt}"
            try:
                await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": content}]
                )
            except openai.RateLimitError:
                return False
            return True

        async with openai.AsyncOpenAI(api_key=key, base_url=url, max_retries=0) as client:
            return sum(await asyncio.gather(*(call(client, n) for n in range(count))))


def _judge(outcomes: list[Outcome], shown: Shown) -> None:
    text = expected_text().rstrip()
    for outcome in outcomes:
        error, got = outcome.error, outcome.text.rstrip()
        if error is None:
            shown.whole += 1
            if got != text:
                shown.differences.append(f"whole with another text: {got[:100]!r}")
            continue
        if is_protocol_error(error):
            shown.differences.append(f"malformed: {error!r}")
        status = getattr(error, "status_code", None)
        kind = CUT if got else f"status {status}" if status else "no response"
        shown.ended[kind] += 1
        if got and not text.startswith(got):
            shown.differences.append(f"cut with another text: {got[:100]!r}")


async def play(
    home: Path, redis: Redis, proxy: str, seconds: float, names: list[str]
) -> tuple[list[Shown], dict[str, tuple[int, int, int]]]:
    """Start a fleet, play the scenarios on it, and return what they and the limits have shown."""
    upstream = DemoUpstream(pace_s=0.005)
    upstream.record = Record(kept=None)
    port = await upstream.listen("both")
    fleet = Fleet(home, redis, port, proxy)
    try:
        await asyncio.to_thread(fleet.start)
        _, key = await asyncio.to_thread(fleet.new_key, "load")
        run = Run(fleet, upstream, seconds)
        shown = []
        for name in names:
            shown.append(await run.play(name, key))
            print(shown[-1].line(), flush=True)
        limits = await run.limits()
        reconciled = await asyncio.to_thread(fleet.capio, "reconcile", "--json")
        sys.stdout.write(f"limits {limits}\nreconcile {reconciled}\n")
        return shown, limits
    finally:
        await asyncio.to_thread(fleet.close)
        await upstream.aclose()


def main() -> None:
    """Run it by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--redis", choices=[*PLAYED], default="single")
    parser.add_argument("--proxy", choices=("haproxy", "nginx"), default="haproxy")
    options = parser.parse_args()
    begin, names = PLAYED[options.redis]
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        shown, limits = asyncio.run(play(home, begin(), options.proxy, options.seconds, names))
    for each in shown:
        for difference in each.differences[:20]:
            sys.stdout.write(f"{each.name}: {difference}\n")
    exact = all(least <= found <= most for found, least, most in limits.values())
    sys.exit(bool(sum(len(each.differences) for each in shown)) or not exact)


if __name__ == "__main__":
    main()
