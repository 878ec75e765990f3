"""
Runs pure work on large requests in a thread, off the event loop.

A thread is not faster, because it shares the interpreter's lock, but it releases the lock every
5 ms; on the loop, the same work would block all other clients until its end. There is only one
thread, since a second one would halve the loop's share again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LOOP_BYTES: Final = 1024 * 1024
"""Bodies up to this size are relayed on the loop: finding their members takes milliseconds."""

WALKED_BYTES: Final = 128 * 1024
"""Bodies up to this size are walked on the loop, whatever they contain."""

_WALKED_OBJECTS: Final = 4096
_WALKED_ELEMENTS: Final = 40_000

_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="walk")


def is_long_walk(body: bytes) -> bool:
    """Return whether a walk over all messages and blocks of `body` may take over 20 ms."""
    if not WALKED_BYTES < len(body) <= LOOP_BYTES:
        return len(body) > LOOP_BYTES
    return (
        body.count(b"{") + body.count(b"[") > _WALKED_OBJECTS or body.count(b",") > _WALKED_ELEMENTS
    )


async def offloaded_if_long(
    size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Return the result of `work`, run in the thread if `size` exceeds `WALKED_BYTES`."""
    if size > WALKED_BYTES:
        return await offloaded(work, *args, **kwargs)
    return work(*args, **kwargs)


async def offloaded(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of `work`, run in the thread for long walks."""
    call = partial(work, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_thread, call)
