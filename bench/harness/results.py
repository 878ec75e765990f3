"""What was measured, with the environment, as JSON in `bench/results/`."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.harness.summary import Summary, summarise

FOLDER = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True)
class Record:
    """One system in one scenario of one round."""

    round: int
    scenario: str
    system: str
    requests: int
    failures: int
    units: int
    seconds: float
    worker_us: float | None = None
    """CPU of the workers for a unit; None: the system has no processes, or did nothing."""
    whole_us: float | None = None
    """The same of the whole process tree."""
    ttft_ms: Mapping[str, float] = field(default_factory=dict)
    gap_ms: Mapping[str, float] = field(default_factory=dict)
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    """From when a request was due to the end of its response."""
    private_mb: float | None = None
    """The tree's private memory, with the streams of this scenario open if it has any."""
    idle_mb: float | None = None
    """The tree's private memory after the start."""
    others: float = 0.0
    """CPU that processes outside of the run took meanwhile, in cores: how noisy it was."""
    note: str = ""
    failed: Mapping[str, int] = field(default_factory=dict)
    """The failures by kind."""


@dataclass
class Results:
    """A run: the environment, the systems' versions, and all records."""

    environment: dict[str, str]
    systems: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """Peers that were asked for and did not take part: name -> why."""
    records: list[Record] = field(default_factory=list)

    def of(self, scenario: str, system: str) -> list[Record]:
        """Return the records of a system in a scenario, in the order of the rounds."""
        return [each for each in self.records if (each.scenario, each.system) == (scenario, system)]

    def summary(self, scenario: str, system: str, figure: str) -> Summary | None:
        """
        Return median and range of a figure over the rounds.

        Args:
            figure: The name of a field, or `ttft_ms.p50` for one of its members.
        """
        name, _, member = figure.partition(".")
        values = (getattr(each, name) for each in self.of(scenario, system))
        found: Iterable[Any] = (each.get(member) for each in values) if member else values
        return summarise(value for value in found if value is not None)

    def median(self, scenario: str, system: str, figure: str) -> float | None:
        """Return the median of a figure over the rounds."""
        found = self.summary(scenario, system, figure)
        return found.median if found else None

    def rounds(self) -> int:
        """Return how many rounds there were."""
        return len({each.round for each in self.records})

    def save(self, path: Path) -> None:
        """Write everything as JSON, one record a line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {
            "environment": self.environment, "systems": self.systems, "absent": self.absent,
        }  # fmt: skip
        lines = ",\n  ".join(json.dumps(_filled(each)) for each in self.records)
        text = json.dumps(head, indent=1).removesuffix("\n}")
        path.write_text(f'{text},\n "records": [\n  {lines}\n ]\n}}\n', "utf-8")

    @staticmethod
    def load(path: Path) -> Results:
        """Read what `save` wrote."""
        decoded = json.loads(path.read_text("utf-8"))
        records = [Record(**each) for each in decoded["records"]]
        return Results(decoded["environment"], decoded["systems"], decoded["absent"], records)


def _filled(record: Record) -> dict[str, object]:
    """Return the fields of a record that say something."""
    return {name: value for name, value in asdict(record).items() if value not in (None, {}, "")}


def environment(**further: str) -> dict[str, str]:
    """Return what the figures are taken on."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True, text=True, check=False, cwd=FOLDER.parent,
    )  # fmt: skip
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": found[1] if found else platform.processor(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "commit": commit.stdout.strip() or "unknown",
        **further,
    }
