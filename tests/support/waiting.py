"""Waiting for something to become true, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.005


async def wait_until(
    predicate: Callable[[], object] | Callable[[], Awaitable[object]], timeout_s: float = 5.0
) -> None:
    """Return once `predicate()` (plain or async) is true; AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        outcome = predicate()
        if isinstance(outcome, Awaitable):
            outcome = await outcome
        if outcome:
            return
        assert time.monotonic() < deadline, f"not true within {timeout_s} s: {predicate}"
        await asyncio.sleep(POLL_S)


def wait_until_sync(predicate: Callable[[], object], timeout_s: float = 5.0) -> None:
    """As `wait_until`, for tests without a loop."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, f"not true within {timeout_s} s: {predicate}"
        time.sleep(POLL_S)


def accepts(port: int) -> bool:
    """Return whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
