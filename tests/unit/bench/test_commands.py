"""Commands of the benchmarks, as the documents and the modules name them, start."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PLACES = [
    ROOT / "README.md",
    ROOT / "Makefile",
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "bench" / "README.md",
    *(ROOT / "bench").rglob("*.py"),
]
COMMAND = re.compile(r"-m (bench(?:\.\w+)*)((?:[^`\n#]|\\\n)*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def documented() -> Iterator[tuple[str, str]]:
    """Yield each command's module and arguments."""
    for place in PLACES:
        text = re.sub(r"\\\n\s*", " ", place.read_text("utf-8"))
        yield from COMMAND.findall(text)


COMMANDS: dict[str, set[str]] = {}
for name, words in documented():
    COMMANDS.setdefault(name, set()).update(OPTION.findall(words))


def test_commands_are_found() -> None:
    """With options, also those of a line that goes on."""
    assert {"bench.run", "bench.memory", "bench.micro.valkey", "bench.peers.install"} <= set(
        COMMANDS
    )
    assert {"--direct-port", "--scenario", "--gateway"} <= COMMANDS["bench.run"]


@pytest.mark.parametrize("module", COMMANDS)
def test_command_starts_and_has_its_documented_options(module: str) -> None:
    """In a process of its own, where nothing else has imported what it needs."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
    assert COMMANDS[module] - set(OPTION.findall(done.stdout)) == set()


def test_comparison_of_one_round_is_refused_before_it_is_measured() -> None:
    """Its spread, by which it is judged, is unknown."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.parts", "--against", "HEAD", "--rounds", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert "--rounds: at least 2" in done.stderr
