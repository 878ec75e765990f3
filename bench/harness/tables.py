"""The results as Markdown tables, for a terminal and for the documents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from bench.harness.results import Results
from bench.harness.scenarios import SCENARIOS, Kind, Scenario

DIRECT, NGINX, OURS = "direct", "nginx", "capio"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Return a Markdown table whose further columns are numbers."""
    rule = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows)) + "\n"


def measured(results: Results) -> list[Scenario]:
    """Return the scenarios that have results, in their order."""
    names = {each.scenario for each in results.records}
    return [each for each in SCENARIOS if each.name in names]


def systems(results: Results) -> list[str]:
    """Return the systems with processes, the gateway first."""
    names = dict.fromkeys(
        each.system for each in results.records if each.system not in (DIRECT, OURS)
    )
    return [OURS, *names]


def cost_table(results: Results) -> str:
    """Return CPU for a unit, of each scenario: nginx, the gateway's worker, and its whole tree."""
    rows = []
    for scenario in measured(results):
        ours = results.summary(scenario.name, OURS, "whole_us")
        if ours is None:
            continue
        nginx = results.summary(scenario.name, NGINX, "whole_us")
        worker = results.summary(scenario.name, OURS, "worker_us")
        rows.append([
            scenario.name,
            scenario.title,
            nginx.shown() if nginx else "-",
            worker.shown() if worker else "-",
            ours.shown(),
            f"{ours.median / nginx.median:.1f}" if nginx else "-",
        ])  # fmt: skip
    head = ("scenario", "unit", "nginx, us", "worker, us", "all processes, us", "x nginx")
    return table(head, rows, 2)


def ratio_table(results: Results, names: Sequence[str]) -> str:
    """Return CPU for a unit of all systems beside each other, in us, all processes."""
    rows = []
    for scenario in measured(results):
        if scenario.kind is Kind.OPEN:
            continue
        cells = [results.median(scenario.name, name, "whole_us") for name in names]
        rows.append([scenario.title, *(number(cell) for cell in cells)])
    return table(["CPU of all processes, us", *names], rows)


def latency_table(results: Results, names: Sequence[str]) -> str:
    """Return the latencies at fixed rates, and of streams, of all systems: p50 / p99 in ms."""
    rows = []
    for scenario in measured(results):
        if scenario.kind is Kind.OPEN:
            cells = [_pair(results, scenario.name, name, "latency_ms") for name in names]
            rows.append([scenario.title, *cells])
        elif scenario.kind is Kind.PACED:
            title = re.sub("^chunk, ", "", scenario.title)
            for label, figure in (("TTFT", "ttft_ms"), ("gap", "gap_ms")):
                cells = [_pair(results, scenario.name, name, figure) for name in names]
                rows.append([f"{label}, {title}", *cells])
    return table(["p50 / p99, ms", *names], rows)


def memory_table(results: Results, names: Sequence[str]) -> str:
    """Return the private memory of all processes: idle, with streams, and for each stream."""
    rows = []
    for scenario in measured(results):
        if scenario.kind is not Kind.PACED:
            continue
        for name in names:
            held = results.median(scenario.name, name, "private_mb")
            idle = results.median(scenario.name, name, "idle_mb")
            if held is not None and idle is not None:
                each = (held - idle) / scenario.at_once * 1000
                rows.append(
                    [name, f"{scenario.at_once:,}", f"{idle:.0f}", f"{held:.0f}", f"{each:.0f}"]
                )
    return table(["system", "streams", "idle, MB", "held, MB", "KB a stream"], rows)


def failure_lines(results: Results) -> list[str]:
    """Return what failed: a figure of a run with failures is not comparable."""
    counted: dict[tuple[str, str], list[int]] = {}
    kinds: dict[tuple[str, str], Counter[str]] = {}
    for each in results.records:
        failed = counted.setdefault((each.system, each.scenario), [0, 0])
        failed[0] += each.failures
        failed[1] += each.requests
        kinds.setdefault((each.system, each.scenario), Counter()).update(each.failed)
    return [
        f"- {system}, {scenario}: {failed} of {max(requests, failed)} requests failed"
        f"{kinds_of(kinds[system, scenario])}."
        for (system, scenario), (failed, requests) in counted.items()
        if failed
    ]


def kinds_of(failed: Mapping[str, int]) -> str:
    """Return failures by kind, the most frequent first; older results have none."""
    counted = sorted(failed.items(), key=lambda each: -each[1])
    named = "; ".join(f"{number}: {kind}" for kind, number in counted)
    return f" ({named})" if named else ""


def printed(results: Results) -> str:
    """Return everything for a terminal."""
    names = systems(results)
    parts = [
        cost_table(results),
        ratio_table(results, names),
        latency_table(results, [DIRECT, *names]),
        memory_table(results, names),
        "\n".join(failure_lines(results)),
    ]
    return "\n".join(parts)


def number(value: float | None) -> str:
    """Return a figure with about three digits, or a dash."""
    if value is None:
        return "-"
    value = round(value, 1) + 0.0  # a difference may be a little below zero, but is not "-0.0"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _pair(results: Results, scenario: str, system: str, figure: str) -> str:
    pair = [results.median(scenario, system, f"{figure}.{name}") for name in ("p50", "p99")]
    return " / ".join(number(value) for value in pair) if None not in pair else "-"
