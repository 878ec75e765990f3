"""A journal of calls over a fake Redis, which comes and goes as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from gateway.settings import Server, Settings
from gateway.store.hot_state.redis_schema import account_scripts
from gateway.store.redis.connection import Argument
from gateway.store.redis.scripts import LuaScript
from gateway.store.spill.segments import segments
from gateway.store.usage.journal import UsageStream
from gateway.telemetry.metrics import Metrics


class FakeBus:
    """
    A bus over a list. `failure` is raised for every command while it is set.

    Its streams are full while `length` is at least what they take.
    """

    def __init__(self) -> None:
        self.settled: list[tuple[Sequence[Argument], Sequence[Argument]]] = []
        self.commands: list[tuple[Argument, ...]] = []
        self.failure: Exception | None = None
        self.answer = asyncio.Event()
        self.answer.set()
        self.length = 0
        self.scripts = 0
        self.result: object = 1
        self.epoch = b"req_0"

    def before_flush(self, gather: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(gather)

    def command(self, *args: Argument) -> Awaitable[object]:
        return self._reply(args)

    async def script(
        self, script: LuaScript, keys: Sequence[Argument], args: Sequence[Argument] = ()
    ) -> object:
        return await self.command(b"EVALSHA", script.sha, len(keys), *keys, *args)

    def _settle(self, args: Sequence[Argument]) -> list[object]:
        """Do as `lua/settle.lua`: keys, three arguments, and nine for each call."""
        arguments = args[3 + int(args[2]) :]
        keys, capacity, calls = args[3:7], int(arguments[2]), arguments[3:]
        assert args[1] == account_scripts().settle.sha
        if self.length >= capacity:
            return [self.epoch, *[-1] * (len(calls) // 9)]
        for first in range(0, len(calls), 9):
            self.settled.append((keys, calls[first : first + 9]))
        self.scripts += 1
        return [self.epoch, *[self.result] * (len(calls) // 9)]

    async def _reply(self, args: tuple[Argument, ...]) -> object:
        await self.answer.wait()
        if self.failure is not None:
            raise self.failure
        if args[0] == b"EVALSHA":
            return self._settle(args)
        if args[0] == b"XLEN":
            return self.length
        if args[0] == b"HGET":
            return self.epoch
        self.commands.append(args)
        return b"1-0"

    @property
    def request_ids(self) -> list[str]:
        return [str(args[0]) for _, args in self.settled]


def make_stream(bus: FakeBus, home: Path, **further: object) -> tuple[UsageStream, Metrics]:
    metrics = Metrics(CollectorRegistry())
    stream = UsageStream(
        bus, Settings(server=Server(data_dir=str(home))), metrics, **further  # type: ignore[arg-type]
    )  # fmt: skip
    return stream, metrics


def spilled(home: Path) -> list[bytes]:
    return b"".join(path.read_bytes() for path in segments(home / "spill")).split(b"\n")[:-1]
