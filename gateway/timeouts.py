"""
Timeouts for coroutines of compiled modules.

`async with` is not among what mypyc compiles correctly, see decision 0027: it is kept here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_Result = TypeVar("_Result")


async def within(seconds: float | None, awaited: Awaitable[_Result]) -> _Result:
    """
    Return the result of `awaited`.

    Args:
        seconds: After these it is cancelled; None: never.
        awaited: A coroutine, which runs in the current task.

    Raises:
        TimeoutError: It was cancelled.
    """
    async with asyncio.timeout(seconds):
        return await awaited
