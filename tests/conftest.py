"""What all tests share: hypothesis profiles and a real Valkey."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from hypothesis import settings

from tests.support.fixtures import demo_upstream, gateway, raw_upstream
from tests.support.postgres import (
    database,
    migrated_postgres,
    postgres,
    sql_settings,
)
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until, wait_until_sync

__all__ = [
    "database",
    "demo_upstream",
    "gateway",
    "migrated_postgres",
    "postgres",
    "raw_upstream",
    "sql_settings",
    "wait_until",
    "wait_until_sync",
]

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=20, derandomize=True, deadline=None)
settings.register_profile("long", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("CAPIO_EXAMPLES", "dev"))

TESTS = Path(__file__).parent
OF_PROCESSES = {"abuse", "agents", "browser", "field", "integration", "process"}
"""Directories whose tests talk to processes, and so depend on their speed."""

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes the expected files of golden tests anew, to be reviewed."""
    parser.addoption("--update-golden", action="store_true", help="rewrite expected golden files")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Start long files first, so that no worker is left with one when the others have finished.

    With `CAPIO_RERUNS`, tests of running processes that fail are repeated that often: they depend
    on the time that a loaded machine gives them. pytest reports each repetition.
    """
    items.sort(
        key=lambda item: (
            item.get_closest_marker("agents") is None and item.path.parent.name != "pods"
        )
    )
    reruns = int(os.environ.get("CAPIO_RERUNS", "0"))
    for item in items if reruns else ():
        if item.path.relative_to(TESTS).parts[0] in OF_PROCESSES:
            item.add_marker(pytest.mark.flaky(reruns=reruns))


def pytest_collection_finish() -> None:
    """Keep what was collected, hundreds of megabytes, out of the garbage collector's walks."""
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on asyncio's loop; `mark.asyncio(loop_factories=["asyncio", "uvloop"])` on both."""
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        return LOOPS
    return {"asyncio": LOOPS["asyncio"]}


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The address of one Valkey for the whole run; use a key prefix of your own on it."""
    server = ValkeyProcess()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def valkey() -> Iterator[ValkeyProcess]:
    """A Valkey of the test's own, running, to be killed and paused."""
    server = ValkeyProcess()
    server.start()
    try:
        yield server
    finally:
        server.close()
