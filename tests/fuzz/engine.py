"""Runs a target: on mutations for some seconds, and on hostile input of growing size."""

from __future__ import annotations

import gc
import math
import random
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.mutation import mutate
from tests.fuzz.target import Target

SLOW_S = 0.3
"""CPU time that no mutation of a few KB may take."""
SLOW_TRIES = 3
MOST_RATIO = 6.0
"""Of the time for 4x the size to that for 1x: 4 is linear, 16 quadratic."""
NOISE_S = 0.002
"""Below this, time says nothing about growth."""
TRIES = 4
"""A ratio that is too high is measured again: the least times of all tries count."""
MINIMISE_S = 3.0
"""CPU time for making one failing input smaller."""


class Finding(NamedTuple):
    """An input that a target should have survived."""

    target: str
    why: str
    data: bytes

    def save(self) -> Path:
        """Write the input to a file of its own; return its path."""
        directory = Path(tempfile.mkdtemp(prefix=f"fuzz-{self.target}-"))
        path = directory / "input"
        path.write_bytes(self.data)
        return path


class Growth(NamedTuple):
    """CPU seconds of one shape at 1x, 2x and 4x."""

    shape: str
    seconds: tuple[float, float, float]

    @property
    def ratio(self) -> float:
        """The time of 4x over that of 1x; 0 if both are too short to compare."""
        once, _, four = self.seconds
        return 0.0 if four < NOISE_S else four / max(once, NOISE_S / 4)

    @property
    def is_linear(self) -> bool:
        """Whether the time grows as the input does."""
        return self.ratio < MOST_RATIO


def fuzz(target: Target, seconds: float, seed: int) -> tuple[int, list[Finding]]:
    """Return how many inputs were tried, and one minimised input for each way to fail."""
    draw = random.Random(f"{seed} {target.name}")
    found: dict[str, Finding] = {}
    rounds = 0
    for data in _inputs(target, draw, seconds):
        rounds += 1
        why = failure(target, data)
        if why is not None and why not in found:
            found[why] = Finding(target.name, why, minimised(target, data, why))
    return rounds, [*found.values()]


def _inputs(target: Target, draw: random.Random, seconds: float) -> Iterator[bytes]:
    """Yield every seed as it is, then mutations until the time is over."""
    yield from target.seeds
    until = time.process_time() + seconds  # of this process, however busy the machine is
    while time.process_time() < until:
        data = draw.choice(target.seeds)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            data = mutate(data, draw)
        yield data


def failure(target: Target, data: bytes) -> str | None:
    """Return in a line how the target fails on an input; None: it does not."""
    # A pass of the garbage collector, or another thread, may fall into one run.
    for _ in range(SLOW_TRIES):
        began = time.process_time()
        try:
            target.run(data)
        except target.allowed:
            pass
        except Exception as error:  # noqa: BLE001 any other exception is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        if time.process_time() - began <= SLOW_S:
            return None
    return "slow"


def minimised(target: Target, data: bytes, why: str) -> bytes:
    """Return a part of the input that still fails in the same way."""
    until = time.process_time() + MINIMISE_S
    size = len(data) // 2
    while size and time.process_time() < until:
        at = 0
        while at < len(data) and time.process_time() < until:
            shorter = data[:at] + data[at + size :]
            if failure(target, shorter) == why:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def growth(target: Target, size: int) -> Iterator[Growth]:
    """Yield the time that each shape takes at a size, twice and four times it."""
    gc.collect()
    gc.disable()  # its passes follow the number of live objects, not this input
    try:
        for name, make in target.shapes.items():
            yield _growth(target, name, make, size)
    finally:
        gc.enable()


def _growth(target: Target, name: str, make: Callable[[int], bytes], size: int) -> Growth:
    inputs = [make(size * factor) for factor in (1, 2, 4)]
    least = [math.inf] * 3
    for _ in range(TRIES):
        # Other processes make single runs slower, by their use of caches, and none faster. The
        # sizes take turns, so that a busy moment does not meet one of them alone.
        for _ in range(2):
            least = [
                min(known, _measure(target, data))
                for known, data in zip(least, inputs, strict=True)
            ]
        if Growth(name, (least[0], least[1], least[2])).is_linear:
            break
    return Growth(name, (least[0], least[1], least[2]))


def _measure(target: Target, data: bytes) -> float:
    decode = target.decode or target.run
    refused: tuple[type[BaseException], ...] = (*target.allowed, AssertionError)
    runs = 0
    began = time.process_time()
    while True:
        with suppress(*refused):  # a finding of `fuzz`: here only the time counts
            decode(data)
        runs += 1
        spent = time.process_time() - began
        if spent > NOISE_S:
            return spent / runs
