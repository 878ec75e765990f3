"""
What the documents show of the published results, written by `make docs`.

Facts about peers are about this run: what a peer was configured to do while it was measured, not
all that it can do.
"""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.harness.results import FOLDER, Results
from bench.harness.tables import (
    DIRECT,
    NGINX,
    OURS,
    cost_table,
    failure_lines,
    latency_table,
    memory_table,
    number,
    ratio_table,
    systems,
    table,
)

Figure = Callable[[Results], float | None]
"""Computes a figure; None: it was not measured."""
_BESIDE: Final = {
    "short": "short",
    "prompt-100k": "100 KB",
    "burst-100": "burst chunk",
    "paced-200": "paced chunk",
}


@dataclass(frozen=True)
class Facts:
    """What a system did with each call while it was measured."""

    keys: str = "no"
    charges: str = "no"
    limits: str = "no"
    translates: str = "no"


_PASSES: Final = Facts()
FACTS: Final[Mapping[str, Facts]] = {
    OURS: Facts("each key", "ledger", "yes", "yes"),
    NGINX: _PASSES,
    "haproxy": _PASSES,
    "envoy": _PASSES,
    "vllm-router": _PASSES,
    "sglang-router": _PASSES,
    "ferro": Facts(keys="one key", translates="not run"),
    "litellm": Facts(keys="one key", translates="yes"),
    "portkey": Facts(translates="not run"),
}


@dataclass(frozen=True)
class Target:
    """What a figure may be at most."""

    text: str
    most: float
    unit: str
    figure: Figure

    def row(self, results: Results) -> list[str]:
        """Return the row of a table."""
        found = self.figure(results)
        if found is None:
            return [self.text, f"{self.most:g} {self.unit}", "-", "not measured"]
        kept = "kept" if found <= self.most else "missed"
        return [self.text, f"{self.most:g} {self.unit}", f"{found:.1f} {self.unit}", kept]


_COMPILED: Final = "compiled"
"""`--gateway compiled=TREE` of a published run: the compiled build."""
_DIRECT_PORT: Final = "-direct"
"""Ends the names of gateways that were called on their direct port."""


def _of_nginx(
    scenario: str, base: str = "", figure: str = "whole_us", system: str = OURS
) -> Figure:
    def ratio(results: Results) -> float | None:
        ours = results.median(scenario, system, figure)
        nginx = results.median(base or scenario, NGINX, "whole_us")
        return ours / nginx if ours and nginx else None

    return ratio


def _cost(scenario: str) -> Figure:
    return lambda results: results.median(scenario, OURS, "whole_us")


def added_ttft_ms(results: Results, system: str, quantile: str) -> float | None:
    """Return what a system adds to the time to first token of 200 streams."""
    figure = f"ttft_ms.{quantile}"
    theirs = results.median("paced-200", system, figure)
    direct = results.median("paced-200", DIRECT, figure)
    return None if theirs is None or direct is None else theirs - direct


def _added(quantile: str) -> Figure:
    return lambda results: added_ttft_ms(results, OURS, quantile)


def _kb_a_stream(system: str) -> Figure:
    def kilobytes(results: Results) -> float | None:
        held = results.median("paced-5000", system, "private_mb")
        idle = results.median("paced-5000", system, "idle_mb")
        return None if held is None or idle is None else (held - idle) / 5000 * 1000

    return kilobytes


_ON_DIRECT_PORT: Final = OURS + _DIRECT_PORT
TARGETS: Final = (
    Target("short request", 14, "x nginx", _of_nginx("short")),
    Target("short request, worker alone", 7.5, "x nginx", _of_nginx("short", figure="worker_us")),
    Target("short request, key with limits", 18, "x nginx", _of_nginx("key-limits", "short")),
    Target("prompt of 100 KB", 6, "x nginx", _of_nginx("prompt-100k")),
    Target("chunk in a burst", 1.4, "x nginx", _of_nginx("burst-100")),
    Target("chunk translated", 8, "us", _cost("messages-to-chat")),
    Target("chunk, 200 streams at 20 ms", 3.5, "x nginx", _of_nginx("paced-200")),
    Target("chunk, 1,000 streams at 20 ms", 1.7, "x nginx", _of_nginx("paced-1000")),
    Target("TTFT added at 200 streams, p50", 0.7, "ms", _added("p50")),
    Target("TTFT added at 200 streams, p99", 5, "ms", _added("p99")),
    Target("memory of a stream, of 5,000", 30, "KB", _kb_a_stream(OURS)),
    Target("short request, compiled", 10, "x nginx", _of_nginx("short", system=_COMPILED)),
    Target(
        "short request, compiled, worker alone", 6.5, "x nginx",
        _of_nginx("short", figure="worker_us", system=_COMPILED),
    ),
    Target(
        "short request, compiled, key with limits", 14, "x nginx",
        _of_nginx("key-limits", "short", system=_COMPILED),
    ),
    Target("short request, direct port", 10, "x nginx", _of_nginx("short", system=_ON_DIRECT_PORT)),
    Target(
        "short request, direct port, compiled", 8, "x nginx",
        _of_nginx("short", system=_COMPILED + _DIRECT_PORT),
    ),
    Target(
        "chunk, 200 streams at 20 ms, direct port", 2.8, "x nginx",
        _of_nginx("paced-200", system=_ON_DIRECT_PORT),
    ),
    Target(
        "chunk, 1,000 streams at 20 ms, direct port", 1.5, "x nginx",
        _of_nginx("paced-1000", system=_ON_DIRECT_PORT),
    ),
    Target("memory of a stream, direct port", 20, "KB", _kb_a_stream(_ON_DIRECT_PORT)),
)  # fmt: skip


def target_table(results: Results | None) -> str:
    """Return the targets, and where the results stand if there are some."""
    if results is None:
        return table(
            ["work, all processes", "at most"],
            [[target.text, f"{target.most:g} {target.unit}"] for target in TARGETS],
        )
    rows = [target.row(results) for target in TARGETS]
    return table(["work, all processes", "at most", "measured", ""], rows)


def beside_table(results: Results) -> str:
    """Return ours beside theirs: CPU, added latency, and what each did for it."""
    rows = []
    for name in systems(results):
        facts = FACTS.get(name, FACTS[OURS])  # another build, or the direct port
        costs = [number(results.median(scenario, name, "whole_us")) for scenario in _BESIDE]
        added = number(added_ttft_ms(results, name, "p50"))
        did = [facts.keys, facts.charges, facts.limits, facts.translates]
        rows.append([_versioned(results, name), *costs, added, *did])
    head = ["system", *_BESIDE.values(), "TTFT", "keys", "charges", "limits", "translates"]
    return table(head, rows)


def _versioned(results: Results, name: str) -> str:
    return f"{name} {results.systems.get(name, '')}".strip()


def machine(results: Results) -> str:
    """Return what the results were taken on, and how noisy it was."""
    shown = {key: value for key, value in results.environment.items() if key != "without"}
    others = [record.others for record in results.records]
    lines = [f"- {key}: {value}" for key, value in shown.items()]
    if others:
        lines.append(
            f"- rounds: {results.rounds()}; other processes took {statistics.median(others):.2f}"
            f" cores meanwhile (median; at most {max(others):.2f})"
        )
    absent = [f"- {name} did not take part: {why}" for name, why in results.absent.items()]
    return "\n".join([*lines, *absent])


def bench_results(results: Results) -> str:
    """Return all tables for bench/README.md."""
    names = systems(results)
    parts = [
        machine(results),
        "### Ours beside theirs\n\n" + beside_table(results),
        "### CPU for a unit of work\n\n![CPU](../docs/images/bench-costs.svg)\n",
        cost_table(results),
        ratio_table(results, names),
        "### Latency\n\n![Latency](../docs/images/bench-latency.svg)\n",
        latency_table(results, [DIRECT, *names]),
        "### Memory\n\n" + memory_table(results, names),
    ]
    if failures := failure_lines(results):
        parts.append("### Failures\n\n" + "\n".join(failures) + "\n")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


_LEAD: Final = (
    "Ours beside theirs in one run, all processes of each system on one core: CPU in microseconds"
    " for a short request, one with a prompt of 100 KB, a chunk in a burst, and a chunk of 200"
    " streams at 20 ms; the time to first token that is added there, median in ms; and what each"
    " did for it. What others can do besides was not switched on; a dash was not measured."
)
_PLOT: Final = "![CPU for a unit of work, all processes](docs/images/bench-costs.svg)"


def readme_part(results: Results) -> str:
    """Return what the README says of the results."""
    return f"{textwrap.fill(_LEAD, 120)}\n\n{beside_table(results)}\n{_PLOT}\n"


def published(folder: Path = FOLDER) -> Results | None:
    """Return the newest published results, if there are some: files are named by their day."""
    newest = max(folder.glob("*.json"), default=None)
    return Results.load(newest) if newest else None
