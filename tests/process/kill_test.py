"""
The kill test: the books hold although everything is killed.

    python -m tests.process.kill_test --seconds 600 --seed 7 [--postgres] [--home DIR]

Clients in both dialects call through a gateway of two workers. At random, workers, the ledger
writer, Valkey, the clients' processes and PostgreSQL (with --postgres) are killed with -9, Valkey
is frozen, clients leave and upstreams break. Then, with the lease time over, the upstream's own
record and the books are compared call by call: see `kill_audit`, whose table says what may differ.

Prints what became of the calls and every difference. Exit code 1: one has no explanation.

What is acknowledged survives a kill of the embedded Valkey: its append-only file has every write in
the kernel's hands before the answer goes out, but for up to two seconds while an earlier sync still
runs; for these the workers keep their last events and tell them again. Only a worker that dies in
the same moment takes them along. The seed fixes the upstream's choices for the nth kill and call,
not the machine's timing: a run is repeated in kind, not to the letter.
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

from tests.process.kill_audit import Audit, read_calls
from tests.process.kill_books import Books
from tests.process.kill_service import LEASE_S, RENEW_S, KillService
from tests.waiting import wait_until

QUIET_S = 40.0
"""For everything to be settled: the lease, the sweepers' rest, the replay, the ledger's backoff."""
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
        lines += [f"{'killed':<44}{sum(self.kills.values()):>8}"]
        lines += [f"  {name:<42}{count:>8}" for name, count in sorted(self.kills.items())]
        lines += [
            f"{'charged, dollars':<44}{self.charged_nanousd / 1e9:>8.4f}",
            f"{'used after a last checkpoint, dollars':<44}{self.not_charged_nanousd / 1e9:>8.4f}",
            f"{'quiet after, seconds':<44}{self.quiet_after_s:>8.1f}",
            f"{'differences without an explanation':<44}{len(self.differences):>8}",
            *(f"  {difference}" for difference in self.differences),
        ]
        return "\n".join(lines)


def run(home: Path, *, seconds: float, seed: int, postgres: bool = False) -> Findings:
    """Load, kill, wait, compare; leaves all files in `home`."""
    # A proxy of the machine's environment must not stand between clients and the loopback.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    service = KillService(home, seed, seconds, postgres=postgres)
    try:
        service.start()
        chance = random.Random(seed + 1)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, chance.uniform(0.5, 2.0)))
            service.disturb()
        service.wait_for_clients()
        service.gateway.wait_ready()
        return asyncio.run(_compare(service))
    finally:
        service.stop()


async def _compare(service: KillService) -> Findings:
    began = time.monotonic()
    books = Books(service.gateway.data_dir)
    differences: list[str] = []
    try:
        with contextlib.suppress(AssertionError):
            await wait_until(books.is_quiet, QUIET_S)
        quiet_after_s = time.monotonic() - began
        if waiting := await books.waiting():
            differences.append(f"still under way {QUIET_S:.0f} s after the last call: {waiting}")
        rows = await books.rows()
        differences += await books.mistakes()
    finally:
        await books.aclose()
    (service.home / "kills.json").write_bytes(msgspec.json.encode(service.kills))
    (service.home / "rows.json").write_text(json.dumps(rows))
    differences += _told(service)
    audit = Audit(read_calls(service.client_logs, service.record), rows, service.kills, RENEW_S)
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
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--home", type=Path, help="keep all files there")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp(prefix="capio-kill-"))
    print(f"seed {options.seed}, files in {home}, lease {LEASE_S} s, checkpoint every {RENEW_S} s")
    findings = run(home, seconds=options.seconds, seed=options.seed, postgres=options.postgres)
    print(findings.table())
    if findings.differences:
        return 1
    if options.home is None:
        shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
