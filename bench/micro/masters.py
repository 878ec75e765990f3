"""
What one, two and three Redis masters carry: CPU of each for a call, and the calls a second of them.

    python -m bench.micro.masters [--calls N] [--rounds N]

Starts as many Valkey servers with an append-only file, each with a worker and a ledger reader of
its own, as accounts are spread over masters: no call needs two of them. All run at once. Prints for
each number of masters the CPU of a master for a call (admission, settlement, ledger; user and
system), and the calls a second that the masters carry together if each has a core for itself: one
second of CPU divided by that. Wall-clock time is not used, so a machine with few cores can do it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
MASTERS = (1, 2, 3)
AT_ONCE = 64


def measured(masters: int, limited: bool, calls: int, rounds: int) -> list[float]:
    """Return the CPU in us for a call of each master, the median of its rounds."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.micro.valkey", "--serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(masters)
    ]  # fmt: skip
    asked = json.dumps([AT_ONCE, limited, calls])
    found: list[list[float]] = [[] for _ in children]
    for _ in range(rounds):
        for child in children:
            assert child.stdin is not None
            print(asked, file=child.stdin, flush=True)
        for child, results in zip(children, found, strict=True):
            assert child.stdout is not None
            results.append(sum(json.loads(child.stdout.readline())))
    for child in children:
        child.communicate()
    return [median(results) for results in found]


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description="Redis masters side by side, see the module.")
    parser.add_argument("--calls", type=int, default=8_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| limits | masters | CPU us a call, of each | calls/s together |")
    print("| --- | ---: | --- | ---: |")
    for limited in (False, True):
        for masters in MASTERS:
            costs = measured(masters, limited, options.calls, options.rounds)
            carried = sum(1e6 / cost for cost in costs)
            shown = ", ".join(f"{cost:.0f}" for cost in costs)
            kind = "key and model" if limited else "none"
            print(f"| {kind} | {masters} | {shown} | {carried:.0f} |", flush=True)


if __name__ == "__main__":
    main()
