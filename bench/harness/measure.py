"""Measures one system in one scenario."""

from __future__ import annotations

import math
import time
from collections import Counter

import uvloop

from bench.harness import loads
from bench.harness.loads import NOTHING, PacedLoad, Seen
from bench.harness.processes import Cpu
from bench.harness.results import Record
from bench.harness.scenarios import Kind, Scenario
from bench.harness.summary import quantiles_ms
from bench.harness.systems import System
from bench.open_loop import BROKEN, OpenLoop, Phase

WARM_CONNECTIONS = 16
WARM_S = 0.2
SETTLE_S = 15.0


class Meter:
    """
    Measures systems, and remembers what they can no longer hold.

    Args:
        seconds: How long each load lasts.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._idle_mb: dict[str, float] = {}

    def idle(self, system: System) -> None:
        """Note the memory of a system that has just started."""
        if system.root:
            self._idle_mb[system.name] = round(system.private_mb(), 1)

    def measure(self, number: int, scenario: Scenario, system: System) -> Record:
        """Return what the system did in the scenario's load."""
        if scenario.kind is Kind.PACED:
            return uvloop.run(self._paced(number, scenario, system))
        return self._requests(number, scenario, system)

    def _requests(self, number: int, scenario: Scenario, system: System) -> Record:
        payload, port = scenario.payload(system), scenario.port(system)
        warm = min(scenario.at_once, WARM_CONNECTIONS)
        uvloop.run(loads.closed(port, payload, warm, WARM_S))
        before = system.clock.wait_idle() if system.clock else None
        if scenario.kind is Kind.OPEN:
            seen = uvloop.run(self._open(scenario, port, payload.next()))
        elif scenario.kind is Kind.CHURN:
            seen = uvloop.run(loads.churn(port, payload, scenario.at_once, self._seconds))
        else:
            seen = uvloop.run(loads.closed(port, payload, scenario.at_once, self._seconds))
        # What a system does after its responses, as booking them, belongs to them.
        used = system.clock.wait_idle().since(before) if system.clock and before else None
        return self._record(number, scenario, system, seen, seen.requests * scenario.units, used)

    async def _open(self, scenario: Scenario, port: int, request: bytes) -> Seen:
        load = OpenLoop(port, request)
        phase: Phase = await load.run(scenario.rate, self._seconds)
        began = time.perf_counter()
        while load.running and time.perf_counter() - began < SETTLE_S:
            await loads.rest()
        load.close()
        good = [each.seconds for each in phase.samples if each.status == 200]
        failed = Counter(
            BROKEN.get(each.status, f"status {each.status}")
            for each in phase.samples
            if each.status != 200
        )
        failed["not sent: all connections in use"] = phase.unsent
        failed[NOTHING] = load.running
        return Seen(len(phase.samples), +failed, seconds=self._seconds, whole_s=good)

    async def _paced(self, number: int, scenario: Scenario, system: System) -> Record:
        load = PacedLoad(system.port, scenario.payload(system), scenario.at_once, scenario.open_s)
        private: float | None = None
        try:
            await load.open()
            before = system.clock.read() if system.clock else None
            await load.measure(self._seconds)
            used = system.clock.read().since(before) if system.clock and before else None
            private = round(system.private_mb(), 1) if system.root else None
        finally:
            load.close()
        await loads.rest()
        if system.clock:
            system.clock.wait_idle(SETTLE_S)
        return self._record(number, scenario, system, load.seen, load.seen.events, used, private)

    def _record(
        self, number: int, scenario: Scenario, system: System, seen: Seen, units: int,
        used: Cpu | None, private: float | None = None,
    ) -> Record:  # fmt: skip
        each = 1e6 / units if units else math.nan
        is_measured = used is not None and units > 0
        return Record(
            number, scenario.name, system.name, seen.requests, seen.failures, units,
            round(seen.seconds, 3),
            worker_us=round(used.workers * each, 2) if used and is_measured else None,
            whole_us=round(used.whole * each, 2) if used and is_measured else None,
            ttft_ms=quantiles_ms(seen.ttft_s),
            gap_ms=quantiles_ms(seen.gaps_s),
            latency_ms=quantiles_ms(seen.whole_s),
            private_mb=private,
            idle_mb=self._idle_mb.get(system.name) if private is not None else None,
            failed=dict(seen.failed),
        )  # fmt: skip
