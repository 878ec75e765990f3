"""What the documents show of the published results."""

import dataclasses
from pathlib import Path

import pytest

from bench.harness.published import (
    FACTS,
    TARGETS,
    bench_results,
    beside_table,
    machine,
    published,
    readme_part,
    target_table,
)
from bench.harness.results import Record, Results
from bench.peers import PEERS


def record(scenario: str, system: str, whole: float, ttft: float = 0.0) -> Record:
    """One record with the figures that a test needs."""
    filled = Record(0, scenario, system, 1, 0, 1, 1.0, worker_us=whole / 2, whole_us=whole)
    return dataclasses.replace(filled, ttft_ms={"p50": ttft, "p99": 2 * ttft}, others=0.25)


@pytest.fixture
def results() -> Results:
    """A run of three systems."""
    direct = dataclasses.replace(record("paced-200", "direct", 0, 0.25), whole_us=None)
    return Results(
        {"cpu": "one"},
        {"nginx": "1.22", "capio": "", "litellm": "1.0"},
        {"portkey": "not installed"},
        [
            direct,
            record("short", "nginx", 20.0),
            record("short", "capio", 300.0),
            record("paced-200", "nginx", 10.0, 0.35),
            record("paced-200", "capio", 30.0, 0.75),
            record("short", "litellm", 6000.0),
        ],
    )


def test_targets_are_multiples_of_nginx_and_say_where_they_stand(results: Results) -> None:
    """A target that is missed says so, and what was not measured is not kept."""
    lines = target_table(results).split("\n")

    assert "| short request | 14 x nginx | 15.0 x nginx | missed |" in lines
    assert "| short request, worker alone | 7.5 x nginx | 7.5 x nginx | kept |" in lines
    assert "| chunk, 200 streams at 20 ms | 3.5 x nginx | 3.0 x nginx | kept |" in lines
    assert "| TTFT added at 200 streams, p50 | 0.7 ms | 0.5 ms | kept |" in lines
    assert "| chunk in a burst | 1.4 x nginx | - | not measured |" in lines
    assert len(lines) == len(TARGETS) + 3


def test_ours_stands_beside_theirs(results: Results) -> None:
    """Each row has the costs, and what the system did for them."""
    lines = beside_table(results).split("\n")

    assert lines[2].startswith("| capio | 300 | - | - | 30.0 | 0.5 | each key | ledger |")
    assert lines[3].startswith("| nginx 1.22 | 20.0 | - | - | 10.0 | 0.1 | no | no |")
    assert lines[4].startswith("| litellm 1.0 | 6,000 | - | - | - | - | one key | no |")


def test_other_builds_of_the_gateway_stand_beside_it(results: Results) -> None:
    """They do the same for a call, and have targets of their own."""
    results.systems["compiled-direct"] = "on Python 3.14, compiled"
    results.records.append(record("short", "compiled-direct", 150.0))

    assert (
        "| compiled-direct on Python 3.14, compiled | 150 | - | - | - | - | each key | ledger |"
        in (beside_table(results))
    )
    shown = target_table(results)
    assert "| short request, direct port, compiled | 8 x nginx | 7.5 x nginx | kept |" in shown
    assert "| short request, direct port | 10 x nginx | - | not measured |" in shown


def test_every_peer_has_its_facts() -> None:
    """No peer's figures are shown without what it did for them."""
    assert set(PEERS) <= set(FACTS)


def test_targets_stand_alone_without_results() -> None:
    """They are documented before they are measured."""
    lines = target_table(None).split("\n")

    assert lines[2] == "| short request | 14 x nginx |"
    assert len(lines) == len(TARGETS) + 3


def test_readme_has_the_table_and_the_plot(results: Results) -> None:
    """What the README says of a run is written from its results alone."""
    text = readme_part(results)

    assert beside_table(results) in text
    assert "(docs/images/bench-costs.svg)" in text
    assert max(len(line) for line in text.split("\n")) <= 120


def test_machine_says_how_noisy_it_was_and_who_is_missing(results: Results) -> None:
    """Readers can judge the figures."""
    text = machine(results)

    assert "rounds: 1; other processes took 0.25 cores meanwhile" in text
    assert "- portkey did not take part: not installed" in text


def test_newest_results_are_published(results: Results, tmp_path: Path) -> None:
    """Files are named by their day; without one there is nothing to publish."""
    assert published(tmp_path) is None

    Results({"cpu": "old"}).save(tmp_path / "2026-11-30.json")
    results.save(tmp_path / "2026-12-01.json")

    assert published(tmp_path) == results


def test_page_of_the_benchmarks_has_all_tables(results: Results) -> None:
    """Each kind of figure has its heading."""
    text = bench_results(results)

    headings = [line for line in text.split("\n") if line.startswith("### ")]
    assert headings == [
        "### Ours beside theirs", "### CPU for a unit of work", "### Latency", "### Memory",
    ]  # fmt: skip
    assert beside_table(results) in text
