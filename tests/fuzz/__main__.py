"""`python -m tests.fuzz TARGET SECONDS [SEED]`: fuzz one target, or `all` of them in turn."""

from __future__ import annotations

import logging
import random
import sys

from tests.fuzz.engine import Finding, fuzz, growth
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

SIZE = 64 * 1024
"""1x of the measurement of time against size."""


def main(arguments: list[str]) -> int:
    """Return 0 if no target failed."""
    names = ", ".join(TARGETS)
    if len(arguments) not in (2, 3) or arguments[0] not in {*TARGETS, "all"}:
        print(f"usage: python -m tests.fuzz TARGET SECONDS [SEED]\nTARGET: all, {names}")
        return 2
    logging.disable()  # what decoders report of bad input
    chosen = [*TARGETS.values()] if arguments[0] == "all" else [TARGETS[arguments[0]]]
    seconds = float(arguments[1]) / len(chosen)
    seed = int(arguments[2]) if len(arguments) == 3 else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}: {seconds:.1f} s for each of {len(chosen)} targets")
    failed = [target.name for target in chosen if not _run(target, seconds, seed)]
    print(f"failed: {', '.join(failed)}" if failed else "nothing found")
    return 1 if failed else 0


def _run(target: Target, seconds: float, seed: int) -> bool:
    rounds, found = fuzz(target, seconds, seed)
    print(f"\n{target.name}: {rounds} inputs, {len(found)} findings", flush=True)
    for finding in found:
        _show(finding)
    print(f"  {'time against size, ms':34} {'1x':>9} {'2x':>9} {'4x':>9}  4x/1x")
    linear = True
    for each in growth(target, SIZE):
        once, twice, four = (1000 * value for value in each.seconds)
        mark = "" if each.is_linear else "  NOT LINEAR"
        print(
            f"  {each.shape:34} {once:9.2f} {twice:9.2f} {four:9.2f} {each.ratio:6.1f}{mark}",
            flush=True,
        )
        linear = linear and each.is_linear
    return linear and not found


def _show(finding: Finding) -> None:
    print(f"  {finding.why}: {len(finding.data)} bytes in {finding.save()}")
    print(f"    {finding.data[:300]!r}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
