"""The timeout of one awaitable."""

from __future__ import annotations

import asyncio

import pytest

from gateway.timeouts import within


async def test_result_is_returned_by_the_same_task() -> None:
    """A coroutine needs no task of its own."""

    async def task() -> asyncio.Task[object] | None:
        return asyncio.current_task()

    assert await within(5, task()) is asyncio.current_task()


async def test_what_takes_longer_is_cancelled() -> None:
    """The coroutine sees a cancellation; TimeoutError is raised instead of it."""
    seen: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        await within(0.01, wait())
    assert seen == ["cancelled"]


async def test_without_a_limit_it_waits() -> None:
    """None never expires."""
    await within(None, asyncio.sleep(0.01))


async def test_cancellation_of_the_task_is_no_timeout() -> None:
    """It passes through."""
    task = asyncio.ensure_future(within(5, asyncio.sleep(5)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
