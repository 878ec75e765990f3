"""The order of a run, and its slices."""

from pathlib import Path

from bench.harness.rounds import Slices, groups
from bench.harness.scenarios import SCENARIOS, chosen
from bench.harness.systems import Can, System

SYSTEMS = [System("a", 1, can=frozenset(Can)), System("b", 2), System("c", 3)]


def test_systems_take_turns_and_each_round_begins_with_another() -> None:
    """What drifts on the machine is shared out evenly."""
    order = [
        "".join(system.name for system in group.systems)
        for group in groups(chosen(["short"]), SYSTEMS, 4)
    ]

    assert order == ["abc", "bca", "cab", "abc"]


def test_round_has_every_scenario_before_the_next_one_begins() -> None:
    """A run that is cut short has whole rounds."""
    found = [
        (group.round, group.scenario.name)
        for group in groups(chosen(["short", "churn"]), SYSTEMS, 2)
    ]

    assert found == [(0, "short"), (0, "churn"), (1, "short"), (1, "churn")]


def test_systems_take_part_in_what_they_can_do() -> None:
    """A proxy has no translation to measure."""
    (group,) = groups(chosen(["messages-to-chat"]), SYSTEMS, 1)

    assert [system.name for system in group.systems] == ["a"]
    assert list(groups(chosen(["messages-to-chat"]), SYSTEMS[1:], 1)) == []


def test_systems_are_not_asked_for_more_than_they_can_hold() -> None:
    """What would only show an overload is left out."""
    small = System("small", 1, most_streams=200, most_rate=100.0)
    names = {each.scenario.name for each in groups(SCENARIOS, [small], 1)}

    assert {"paced-200", "open-100", "short"} <= names
    assert not {"paced-1000", "open-300"} & names


def test_names_of_scenarios_are_unique() -> None:
    """Results are found by them."""
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


class Clock:
    """Time that passes while a test sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_slices_end_before_they_are_too_long_and_have_pauses_between(tmp_path: Path) -> None:
    """Other jobs wait for a slice at most, and run during the pauses."""
    clock, log = Clock(), tmp_path / "log"
    slices = Slices(f"sh -c 'echo $0 >> {log}'", 180, 60, lambda: clock.now, clock.sleep)

    for _ in range(3):
        slices.before(100)
        clock.now += 80
    slices.end()
    slices.end()

    assert log.read_text().split() == ["begin", "end", "begin", "end"]
    assert clock.slept == [60]
    assert clock.now == 300


def test_run_without_a_command_has_no_slices() -> None:
    """On a machine of its own a run goes on without pauses."""
    clock = Clock()
    slices = Slices(None, 1, 60, lambda: clock.now, clock.sleep)

    slices.before(100)
    slices.before(100)
    slices.end()

    assert clock.slept == []
