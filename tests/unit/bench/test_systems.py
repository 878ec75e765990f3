"""Naming another build of the gateway for a run."""

import platform
import resource
import sys
from pathlib import Path

import pytest

from bench.harness.systems import Build, describe, room_for_streams
from gateway.build_kind import build_kind
from gateway.settings import Server, Settings

ROOT = Path(__file__).resolve().parents[3]


def test_build_is_a_tree_with_an_interpreter() -> None:
    """The interpreter is this one unless it is given."""
    build = Build.parse(f"next={ROOT}:/usr/bin/python3.13")

    assert (build.name, build.tree, build.python) == ("next", ROOT, "/usr/bin/python3.13")
    assert build.environment["PYTHONPATH"] == str(ROOT)
    assert Build.parse(f"pure={ROOT}").python != build.python


@pytest.mark.parametrize("text", [str(ROOT), f"={ROOT}", f"odd={ROOT / 'docs'}", "odd="])
def test_build_without_a_name_or_a_gateway_is_refused(text: str) -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match=r"expected NAME=TREE\[:PYTHON\]"):
        Build.parse(text)


def test_build_is_described_by_its_interpreter_and_kind() -> None:
    """As the build's own interpreter sees it."""
    expected = f"on Python {platform.python_version()}, {build_kind()}"

    assert describe(sys.executable, Build.parse(f"same={ROOT}").environment) == expected


@pytest.mark.parametrize(("direct_port", "room"), [(None, 6000), (8081, 5000)])
def test_streams_are_those_that_open_files_allow(
    monkeypatch: pytest.MonkeyPatch, direct_port: int | None, room: int
) -> None:
    """A gateway with a direct port has two ports to keep them for."""
    files = resource.RLIM_INFINITY, 10_000 + 256
    server = Server(max_connections=6000, max_in_flight=0 + 1, direct_port=direct_port)
    monkeypatch.setattr(resource, "getrlimit", lambda _: files)

    assert room_for_streams(Settings(server=server)) == room
