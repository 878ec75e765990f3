"""Every fuzz target for a moment: a longer run is `make fuzz`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.fuzz.engine import Growth, failure, fuzz, growth, minimised
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

SECONDS = 0.5
SEED = 20271128
SIZE = 16 * 1024


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", TARGETS)
def test_mutations_find_nothing(name: str) -> None:
    """Half a second of mutations, always the same ones first, is read or refused."""
    rounds, found = fuzz(TARGETS[name], SECONDS, SEED)

    assert rounds > len(TARGETS[name].seeds)
    assert [(each.why, each.data[:300]) for each in found] == []


@pytest.mark.alone
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", TARGETS)
def test_time_grows_as_the_input_does(name: str) -> None:
    """Four times the input takes about four times as long, whatever it is made of."""
    grown = [*growth(TARGETS[name], SIZE)]

    assert grown
    suspects = [each for each in grown if not each.is_linear]
    # The heap of a process that has run many tests can make larger inputs slower, a new one not.
    assert not suspects or (again := measured_apart(name)) == [], (suspects, again)


def measured_apart(name: str) -> list[str]:
    """Return the shapes of a target that take too long in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.test_targets", name],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return done.stdout.splitlines()


# The engine finds what it is for.


def raises_on_colon(data: bytes) -> None:
    if b":" in data:
        raise KeyError(data)


def copies_ever_more(data: bytes) -> None:
    held = b""
    for at in range(0, len(data), 16):
        held = held + data[at : at + 16]


TOY_SHAPES = {"letters": lambda size: b"a" * size}


def test_an_unexpected_exception_is_a_finding_and_is_minimised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One finding for one place, with the one byte that matters."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    toy = Target("toy", raises_on_colon, [b'{"a":1,"b":[1,2,3]}'], TOY_SHAPES)
    _, found = fuzz(toy, 0.05, SEED)

    assert [each.data for each in found] == [b":"]
    assert found[0].why.startswith("KeyError at test_targets.py:")
    assert found[0].save().read_bytes() == b":"


def test_an_allowed_exception_is_a_refusal() -> None:
    """What the decoder may raise is no finding."""
    toy = Target("toy", raises_on_colon, [b"a:b"], TOY_SHAPES, allowed=(KeyError,))

    assert failure(toy, b"a:b") is None
    assert minimised(toy, b"abc", "nothing") == b"abc"


def test_quadratic_time_is_noticed() -> None:
    """A buffer that is copied for each piece takes sixteen times as long for four times."""
    toy = Target("toy", copies_ever_more, [b""], TOY_SHAPES)
    (grown,) = growth(toy, 64 * 1024)

    assert not grown.is_linear


def test_linear_time_is_not() -> None:
    """Reading each byte once is four times as long for four times."""
    toy = Target("toy", lambda data: None, [b""], TOY_SHAPES, sum)
    (grown,) = growth(toy, 256 * 1024)

    assert grown.is_linear
    assert Growth("x", (1.0, 4.0, 16.0)).ratio == 16


if __name__ == "__main__":
    for measured in growth(TARGETS[sys.argv[1]], SIZE):
        if not measured.is_linear:
            print(measured)
