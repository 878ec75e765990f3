"""
CPU of the hot path and of its parts, in this process; and next to another commit's in one run.

    python -m bench.parts                              # microseconds a part
    python -m bench.parts --against HEAD~1             # before and after, interleaved
    python -m bench.parts --against HEAD~1 --margin 5  # and exit with 1 if the whole is slower

With `--against`, both trees are measured in turn, in processes of their own and each by its own
`bench.parts`. The figures are the medians of the rounds; the change is the median of the rounds'
ratios, and `+-` half the distance between their quartiles. bench/README.md says more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from bench.hot.parts import Parts
from bench.hot.path import CHUNKS, Worker

WHOLE = {"short request", "relayed chunk", "translated chunk"}
"""What `--margin` applies to; the others are parts of the first."""
ROUNDS = 8


async def best_us(work: Callable[[], Awaitable[object]], count: int, units: int = 1) -> float:
    """Return the least CPU time of a unit of work, in five repetitions."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(count):
            await work()
        best = min(best, (time.process_time() - began) / (count * units))
    return best * 1e6


async def measured() -> dict[str, float]:
    """Return microseconds by part."""
    worker = Worker()
    for work in (worker.short, worker.relayed, worker.translated):
        await best_us(work, 20)
    found = {
        "short request": await best_us(worker.short, 300),
        "relayed chunk": await best_us(worker.relayed, 10, CHUNKS),
        "translated chunk": await best_us(worker.translated, 10, CHUNKS),
    }
    for name, part in Parts(worker).all().items():
        found[name] = await best_us(part, 2000)
    return found


def measured_in(tree: Path) -> dict[str, float]:
    """Return what the tree's own `bench.parts` measures, in a process of its own."""
    if not (tree / "bench/parts.py").exists():
        sys.exit(f"{tree} has no bench/parts.py: choose a later revision")
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "bench.parts", "--json"]
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Check out a revision, or yield the directory that is named."""
    if Path(revision).is_dir():
        yield Path(revision).resolve()
        return
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory, "tree")
        subprocess.run(["git", "worktree", "add", "-q", "--detach", tree, revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], check=True)


def compare(before: Path, after: Path, rounds: int) -> dict[str, tuple[float, float, float, float]]:
    """Return before, after, change in percent and its spread, by part."""
    runs: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(rounds):
        if number % 2:
            second, first = measured_in(after), measured_in(before)
        else:
            first, second = measured_in(before), measured_in(after)
        runs.append((first, second))
    compared = {}
    for name in runs[0][1]:
        if name in runs[0][0]:
            ratios = [100 * (new[name] / old[name] - 1) for old, new in runs]
            low, middle, high = statistics.quantiles(ratios, n=4)
            compared[name] = (
                statistics.median(old[name] for old, _ in runs),
                statistics.median(new[name] for _, new in runs),
                middle,
                (high - low) / 2,
            )
    return compared


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", metavar="REVISION", help="a revision, or a directory")
    parser.add_argument("--margin", type=float, metavar="PERCENT", help="most that may be added")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.against is None:
        figures = uvloop.run(measured())
        if options.json:
            print(json.dumps(figures))
        else:
            for name, us in figures.items():
                print(f"{name:24} {us:8.2f} us")
        return 0
    if options.rounds < 2:
        parser.error("--rounds: at least 2 with --against, since one round has no spread")
    with checked_out(options.against) as tree:
        compared = compare(tree, Path.cwd(), options.rounds)
    slower = []
    print(f"{'us of CPU':24}   before    after  change")
    for name, (before, after, change, spread) in compared.items():
        print(f"{name:24} {before:8.2f} {after:8.2f} {change:+6.1f} % +- {spread:.1f}")
        if options.margin is not None and name in WHOLE and change > options.margin:
            slower.append(name)
    for name in slower:
        print(f"{name} is more than {options.margin:g} % slower.", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
