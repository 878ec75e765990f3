"""
The kill test: the ledger stays correct although everything is killed.

    python -m tests.process.kill.run --seconds 600 --seed 7 [--postgres] [--long] [--home DIR]

Clients in both dialects call through a gateway of two workers. At random, workers, the ledger
writer, Valkey, the clients' processes and PostgreSQL (with --postgres) are killed with -9; a
worker, all workers, the ledger writer or Valkey stand still (SIGSTOP) for longer than a lease;
clients leave and upstreams break. With --long a lease is 30 s, as by default, and a pause 45. Then,
with the lease time over, the upstream's own record and the ledger are compared call by call: see
`kill_audit`, whose table says what may differ.

Prints what became of the calls and every difference. Exit code 1: one has no explanation.

What is acknowledged survives a kill of the embedded Valkey: its append-only file has every write in
the kernel's hands before the response goes out, but for up to two seconds while an earlier sync
still runs; for these the workers keep their last events and send them again. They are lost only
with a worker that dies at the same moment. The seed fixes the upstream's choices for the nth
kill and call, not the machine's timing: a run is repeated in kind, not to the letter.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from tests.process.kill.audit import Audit
from tests.process.kill.books import Books
from tests.process.kill.records import has_ended, read_calls
from tests.process.kill.service import Clocks, KillService
from tests.support.waiting import wait_until

SHORT = Clocks()
LONG = Clocks(lease_s=30.0, renew_s=5.0, pause_s=45.0)
QUIET_S = 40.0
"""For everything to be settled, beside two leases: the replay, the ledger's backoff."""
NO_LOSS = ("gateway_usage_lost_total", "gateway_ledger_parked_total")


class Findings(msgspec.Struct):
    """What a run has shown."""

    outcomes: Counter[str]
    kills: Counter[str]
    differences: list[str]
    charged_nanousd: int
    not_charged_nanousd: int
    """What abandoned calls had cost beyond their last checkpoint."""
    quiet_after_s: float

    def table(self) -> str:
        """Return it for people."""
        total = sum(self.outcomes.values())
        lines = [f"{'calls':<44}{total:>8}"]
        lines += [f"  {name:<42}{count:>8}" for name, count in sorted(self.outcomes.items())]
        lines += [f"{'killed or paused':<44}{sum(self.kills.values()):>8}"]
        lines += [f"  {name:<42}{count:>8}" for name, count in sorted(self.kills.items())]
        lines += [
            f"{'charged, dollars':<44}{self.charged_nanousd / 1e9:>8.4f}",
            f"{'used after a last checkpoint, dollars':<44}{self.not_charged_nanousd / 1e9:>8.4f}",
            f"{'quiet after, seconds':<44}{self.quiet_after_s:>8.1f}",
            f"{'differences without an explanation':<44}{len(self.differences):>8}",
            *(f"  {difference}" for difference in self.differences),
        ]
        return "\n".join(lines)


def run(
    home: Path, *, seconds: float, seed: int, postgres: bool = False, clocks: Clocks = SHORT
) -> Findings:
    """Load, kill, wait, compare; leaves all files in `home`."""
    # A proxy of the machine's environment must not stand between clients and the loopback.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    service = KillService(home, seed, seconds, clocks, postgres=postgres)
    try:
        service.start()
        chance = random.Random(seed + 1)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, chance.uniform(0.5, 2.0)))
            service.disturb()
        service.resume()
        service.wait_for_clients()
        service.gateway.wait_ready()
        return asyncio.run(_compare(service, clocks))
    finally:
        service.stop()


async def _compare(service: KillService, clocks: Clocks) -> Findings:
    began = time.monotonic()
    quiet_s = QUIET_S + 2 * clocks.lease_s  # a sweeper's rest, and what it had to wait for
    books = Books(service.gateway.data_dir)
    differences: list[str] = []
    try:
        with contextlib.suppress(AssertionError):
            await wait_until(books.is_quiet, quiet_s)
        quiet_after_s = time.monotonic() - began
        if waiting := await books.waiting():
            differences.append(f"still under way {quiet_s:.0f} s after the last call: {waiting}")
        rows = await books.rows()
        differences += await books.errors()
    finally:
        await books.aclose()
    (service.home / "kills.json").write_bytes(msgspec.json.encode(service.kills))
    (service.home / "rows.json").write_text(json.dumps(rows))
    differences += _told(service)
    with contextlib.suppress(AssertionError):
        await wait_until(lambda: has_ended(service.record), QUIET_S)
    audit = Audit(
        read_calls(service.client_logs, service.record), rows, service.kills, clocks.renew_s
    )
    audit.run()
    return Findings(
        audit.outcomes,
        Counter(kill.what for kill in service.kills),
        differences + audit.differences,
        sum(row["cost_nanousd"] for row in rows),
        audit.not_charged_nanousd,
        quiet_after_s,
    )


def _told(service: KillService) -> list[str]:
    """Return what the gateway itself says is wrong."""
    found: list[str] = []
    try:
        service.gateway.capio("reconcile")
    except AssertionError as failure:
        found.append(str(failure))
    for line in service.gateway.metrics().split("\n"):
        name, _, value = line.partition(" ")
        if name in NO_LOSS and float(value) != 0:
            found.append(line)
    return found


def main() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(description="The kill test, see the module.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--long", action="store_true", help="the default lease, pauses of 45 s")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--home", type=Path, help="keep all files there")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp(prefix="capio-kill-"))
    clocks = LONG if options.long else SHORT
    print(f"seed {options.seed}, files in {home}, {clocks}")
    findings = run(
        home, seconds=options.seconds, seed=options.seed, postgres=options.postgres, clocks=clocks
    )
    print(findings.table())
    if findings.differences:
        return 1
    if options.home is None:
        shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
