"""
Compares one worker with two: requests a second, and CPU for a request, on all cores.

    python -m bench.scaling [--rounds 5] [--seconds 2]

Nothing is pinned, and mock upstream and load generator run on the same cores: on a machine of two
cores they take a part of the second one, so that twice the rate cannot be seen there. What CPU a
request takes tells whether the workers disturb each other.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import uvloop

from bench.harness import loads
from bench.harness.scenarios import MODELS, Scenario, chosen
from bench.harness.summary import summarise
from bench.harness.systems import System, Upstream, mock_upstream, whole_gateway
from bench.harness.tables import kinds_of, table
from tests.support.gateway_process import free_port

SCENARIOS = ("short", "burst-100")
WORKERS = (1, 2)
CONNECTIONS = 64


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description="Compare one worker with two.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        home, upstream = Path(directory), Upstream(free_port())
        stack.enter_context(mock_upstream(upstream.port, cores))
        systems = []
        for workers in WORKERS:
            started = whole_gateway(
                f"{workers} workers", home / str(workers), upstream, cores, MODELS, workers
            )
            systems.append(stack.enter_context(started))
        rows = [
            row
            for scenario in chosen(list(SCENARIOS))
            for row in compare(scenario, systems, options.rounds, options.seconds)
        ]
    print(table(["load", "workers", "units a second", "CPU, us a unit"], rows))


def compare(
    scenario: Scenario, systems: Sequence[System], rounds: int, seconds: float
) -> list[list[str]]:
    """Measure the systems in turn; return a row for each."""
    found: dict[str, list[tuple[float, float]]] = {system.name: [] for system in systems}
    for _ in range(rounds):
        for system in systems:
            found[system.name].append(measure(scenario, system, seconds))
    rows = []
    for name, pairs in found.items():
        rates, costs = summarise(rate for rate, _ in pairs), summarise(cost for _, cost in pairs)
        assert rates
        assert costs
        rows.append([scenario.title, name, rates.shown(0), costs.shown()])
    return rows


def measure(scenario: Scenario, system: System, seconds: float) -> tuple[float, float]:
    """Return units a second and CPU for a unit of one load."""
    assert system.clock
    before = system.clock.wait_idle()
    seen = uvloop.run(loads.closed(system.port, scenario.payload(system), CONNECTIONS, seconds))
    used = system.clock.wait_idle().since(before)
    if seen.failures:
        kinds = kinds_of(seen.failed)
        raise SystemExit(f"{seen.failures} of {seen.requests} requests failed{kinds}")
    units = seen.requests * scenario.units
    return units / seen.seconds, used.whole / units * 1e6


if __name__ == "__main__":
    main()
