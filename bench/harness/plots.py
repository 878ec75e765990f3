"""The plots of the documents, drawn from the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from bench.harness.results import Results
from bench.harness.scenarios import Kind
from bench.harness.svg import Group, Row, chart
from bench.harness.tables import DIRECT, OURS, measured, systems

COLOURS: Final[Mapping[str, str]] = {OURS: "#0969da"}
OTHERS: Final = "#8c959f"
SHOWN: Final = (
    "short", "prompt-100k", "burst-100", "messages-to-chat", "agent-300k", "paced-200",
    "paced-1000",
)  # fmt: skip
"""The scenarios of the plot of costs; the tables have all."""


def cost_plot(results: Results) -> str:
    """Return CPU for a unit of work, all processes of each system."""
    groups = []
    for scenario in measured(results):
        if scenario.name not in SHOWN:
            continue
        found = {name: results.median(scenario.name, name, "whole_us") for name in systems(results)}
        rows = [Row(name, cost, _colour(name)) for name, cost in found.items() if cost]
        groups.append(Group(scenario.title, sorted(rows, key=lambda row: row.value)))
    return chart("CPU for a unit of work, all processes", "microseconds", groups)


def latency_plot(results: Results) -> str:
    """Return the latencies at fixed rates, and of 200 streams, as ranges from p50 to p99."""
    names = [DIRECT, *systems(results)]
    groups = []
    for scenario in measured(results):
        if scenario.kind is Kind.OPEN:
            groups.append(_group(results, scenario.title, scenario.name, "latency_ms", names))
        elif scenario.name == "paced-200":
            title = "200 streams at 20 ms: time to first token"
            groups.append(_group(results, title, scenario.name, "ttft_ms", names))
            title = "200 streams at 20 ms: gap between chunks"
            groups.append(_group(results, title, scenario.name, "gap_ms", names))
    return chart("Latency, p50 (filled) to p99 (ring)", "milliseconds", groups)


def _group(results: Results, title: str, scenario: str, figure: str, names: Sequence[str]) -> Group:
    rows = []
    for name in names:
        low = results.median(scenario, name, f"{figure}.p50")
        high = results.median(scenario, name, f"{figure}.p99")
        if low and high:
            rows.append(Row(name, low, _colour(name), high))
    return Group(title, rows)


def _colour(name: str) -> str:
    return COLOURS.get(name, OTHERS)
