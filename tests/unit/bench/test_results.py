"""Results: kept as JSON, summed up over rounds, and shown as tables and plots."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench.harness.plots import cost_plot, latency_plot
from bench.harness.results import Record, Results, environment
from bench.harness.tables import (
    cost_table,
    failure_lines,
    latency_table,
    memory_table,
    ratio_table,
    systems,
)


def record(round_: int, scenario: str, system: str, whole: float | None, **more: object) -> Record:
    """One record with the figures that a test needs."""
    fields = {"requests": 10, "failures": 0, "units": 10, "seconds": 1.0, "worker_us": whole}
    return Record(round_, scenario, system, **{**fields, "whole_us": whole, **more})  # type: ignore[arg-type]


@pytest.fixture
def results() -> Results:
    """Three rounds, the second of which was disturbed."""
    found = Results({"cpu": "one"}, {"nginx": "1.22", "capio": ""}, {"ferro": "not installed"})
    for number, slow in enumerate((1.0, 9.0, 1.1)):
        found.records += [
            record(number, "short", "direct", None, ttft_ms={"p50": 0.1, "p99": 0.2}),
            record(number, "short", "nginx", 20.0 * slow),
            record(number, "short", "capio", 300.0 * slow, worker_us=200.0 * slow, failures=number),
            record(number, "messages-to-chat", "capio", 12.0),
            record(number, "open-100", "direct", None, latency_ms={"p50": 0.4, "p99": 1.5}),
            record(number, "open-100", "capio", 900.0, latency_ms={"p50": 2.0, "p99": 8.0}),
            record(
                number, "paced-200", "capio", 30.0, private_mb=150.0, idle_mb=100.0,
                ttft_ms={"p50": 2.0, "p99": 9.0}, gap_ms={"p50": 20.0, "p99": 25.0},
            ),
        ]  # fmt: skip
    return found


def test_results_are_read_back_as_they_were(results: Results, tmp_path: Path) -> None:
    """The file holds the environment and every record, one a line."""
    path = tmp_path / "further" / "run.json"

    results.save(path)

    assert Results.load(path) == results
    assert sum('"scenario"' in line for line in path.read_text().split("\n")) == 21


def test_medians_are_over_rounds(results: Results) -> None:
    """One disturbed round shows in the range only."""
    found = results.summary("short", "nginx", "whole_us")

    assert found is not None
    assert found.shown() == "22.0 (20.0-180.0)"
    assert results.median("open-100", "capio", "latency_ms.p99") == 8.0
    assert results.median("short", "direct", "whole_us") is None
    assert results.rounds() == 3


def test_cost_table_compares_whole_trees_with_nginx(results: Results) -> None:
    """The ratio is of all processes; what has no counterpart has a dash."""
    lines = cost_table(results).split("\n")

    assert "| short | short request | 22.0 (20.0-180.0) | 220.0 (200.0-1800.0) |" in lines[2]
    assert lines[2].endswith("| 330.0 (300.0-2700.0) | 15.0 |")
    assert lines[3].endswith("| - | 12.0 (12.0-12.0) | 12.0 (12.0-12.0) | - |")


def test_systems_stand_beside_each_other(results: Results) -> None:
    """Ours is first, and what was not measured is a dash."""
    names = systems(results)

    assert names == ["capio", "nginx"]
    assert "| short request | 330 | 22.0 |" in ratio_table(results, names)
    assert "| short request, 100 a second | 0.4 / 1.5 | 2.0 / 8.0 |" in latency_table(
        results, ["direct", "capio"]
    )
    assert "| TTFT, 200 streams at 20 ms | - | 2.0 / 9.0 |" in latency_table(
        results, ["direct", "capio"]
    )


def test_memory_is_for_each_stream(results: Results) -> None:
    """50 MB more with 200 streams are 250 KB each."""
    assert "| capio | 200 | 100 | 150 | 250 |" in memory_table(results, ["capio", "nginx"])


def test_failures_are_listed(results: Results) -> None:
    """A figure of a run with failures is not taken for a good one."""
    assert failure_lines(results) == ["- capio, short: 3 of 30 requests failed."]


def test_failures_are_named_by_their_kind(results: Results, tmp_path: Path) -> None:
    """Of all rounds, the most frequent first; they outlive a file."""
    results.records.append(record(7, "short", "nginx", 100.0, failures=2, failed={"late": 2}))
    results.records.append(
        record(8, "short", "nginx", 100.0, failures=5, failed={"late": 1, "cut": 4})
    )
    results.save(tmp_path / "run.json")

    assert failure_lines(Results.load(tmp_path / "run.json"))[0] == (
        f"- nginx, short: 7 of {sum(each.requests for each in results.of('short', 'nginx'))}"
        " requests failed (4: cut; 3: late)."
    )


def test_plots_show_every_system(results: Results) -> None:
    """Both are well formed and name who was measured."""
    for plot, names in ((cost_plot, {"capio", "nginx"}), (latency_plot, {"capio", "direct"})):
        texts = {each.text for each in ET.fromstring(plot(results)).iter() if each.text}
        assert names <= texts


def test_environment_names_machine_and_commit() -> None:
    """A figure without its machine says nothing."""
    found = environment(note="alone")

    assert {"date", "cpu", "cores", "kernel", "python", "commit", "note"} <= set(found)
    assert found["commit"] != "unknown"
