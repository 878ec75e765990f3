"""An awaitable whose first step was taken by hand."""

from __future__ import annotations

import asyncio

from gateway.pipeline.client.stepped import Stepped


async def test_stepped_awaitable_continues_where_it_waits() -> None:
    """The future of its first step is waited for, and everything after it runs."""
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done: list[str] = []

    async def work() -> None:
        done.append("begun")
        await gate
        done.append("continued")
        await asyncio.sleep(0)
        done.append("ended")

    step = work().__await__()
    waiting = asyncio.ensure_future(_wait(Stepped(next(step), step)))
    await asyncio.sleep(0)
    assert done == ["begun"]

    gate.set_result(None)
    await waiting

    assert done == ["begun", "continued", "ended"]


async def _wait(stepped: Stepped) -> None:
    await stepped
