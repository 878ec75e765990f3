"""Starts a peer's process, and ends it with all that it has started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.harness.processes import started_on
from bench.harness.systems import System, Upstream

START_S: Final = 180.0
STOP_S: Final = 10.0
FOLDER: Final = Path(
    os.environ.get("CAPIO_BENCH_PEERS") or Path(__file__).resolve().parents[2] / ".peers"
)
"""Where `python -m bench.peers.install` puts each peer in a folder of its own."""


@dataclass(frozen=True)
class Place:
    """
    What a peer is started with.

    Args:
        home: Its folder, which does not exist yet.
        models: Names by which it is asked, for those that need to know them.
    """

    home: Path
    upstream: Upstream
    cores: set[int]
    models: tuple[str, ...]


Peer = Callable[[Place], AbstractContextManager[System]]
"""Runs a peer until the block ends."""


class AbsentError(Exception):
    """The peer is not installed, does not start, or responds wrongly; the text says which."""


def installed(name: str, path: str) -> Path:
    """
    Return a file of an installed peer.

    Raises:
        AbsentError: It is not there.
    """
    found = FOLDER / name / path
    if not found.exists():
        raise AbsentError(f"not installed: `python -m bench.peers.install {name}`")
    return found


@contextmanager
def running(
    command: list[str], place: Place, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """
    Run a command until the block ends; yield its process id when the port is open.

    Raises:
        AbsentError: It does not listen.
    """
    with (place.home / "log").open("wb") as log, started_on(place.cores):
        process = subprocess.Popen(
            command, cwd=place.home, env={**os.environ, **(environment or {})}, stdout=log,
            stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_until_open(port, process, place.home / "log")
        yield process.pid
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(STOP_S)
    except ProcessLookupError:
        process.wait()
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AbsentError(f"{process.args!r} does not listen:\n{log.read_text()[-2000:]}")


def version_of(*command: str | Path) -> str:
    """Return what a command prints."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return (done.stdout + done.stderr).strip()


def python_version(name: str, package: str) -> str:
    """Return the version of a Python package in a peer's environment."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return version_of(installed(name, "bin/python"), "-c", code)
