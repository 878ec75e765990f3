"""
The kill test's clients, a process of their own: some lanes, each with one call after the other.

    python -m tests.process.kill.load ORDER

ORDER is a JSON file, see `Order`. Each lane asks for a model of its own, in both dialects, streamed
and whole; some calls it leaves before their end. It appends to its log when it begins a call and
how that ended: `whole`, `refused` (an error response), `cut` (the response broke off or reported an
error) or `left`. A process that is killed leaves calls without an end: they are `killed`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import sys
import time
from pathlib import Path

import msgspec

from tests.support.bodies import ANTHROPIC, OPENAI, request

END_MARKS = {OPENAI: b"data: [DONE]", ANTHROPIC: b"message_stop"}
CALL_S = 30.0
LEAVES = 0.15
"""The share of calls that their client leaves."""


class Order(msgspec.Struct):
    """What a process of clients has to do."""

    port: int
    log: str
    lanes: list[int]
    keys: list[str]
    until: float
    """Unix seconds: no call begins after it."""


class Ending(Exception):  # noqa: N818 -- not an error
    """How a call ended."""

    def __init__(self, how: str, status: int = 0) -> None:
        super().__init__(how)
        self.how = how
        self.status = status


class Lane:
    """One client."""

    def __init__(self, number: int, order: Order, log: int) -> None:
        self._number = number
        self._order = order
        self._log = log
        self._chance = random.Random()
        self._opened: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        """Call until the time is over."""
        while time.time() < self._order.until:
            how = await self._call()
            if how in ("refused", "unreachable"):
                await asyncio.sleep(0.1)
        self._close()

    async def _call(self) -> str:
        chance = self._chance
        marker = f"kt-{self._number}-{secrets.token_hex(6)}"
        path = chance.choice((OPENAI, ANTHROPIC))
        stream = chance.random() < 0.75
        self._note(e="begin", marker=marker, lane=self._number, path=path, stream=stream)
        leaves_after = chance.random() ** 3 * 3 if chance.random() < LEAVES else CALL_S
        ending = Ending("cut")
        try:
            async with asyncio.timeout(leaves_after):
                await self._ask(path, stream, marker)
        except Ending as ended:
            ending = ended
        except TimeoutError:
            ending = Ending("left" if leaves_after < CALL_S else "hung")
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass
        if ending.how not in {"whole", "refused"}:
            self._close()
        self._note(e="end", marker=marker, how=ending.how, status=ending.status)
        return ending.how

    async def _ask(self, path: str, stream: bool, marker: str) -> None:
        try:
            reader, writer = await self._connection()
        except OSError as error:
            raise Ending("unreachable") from error
        body = request(path, f"lane-{self._number}", f"{marker} please", stream=stream)
        key = self._order.keys[self._number % len(self._order.keys)]
        head = (
            f"POST {path} HTTP/1.1\r\nhost: gateway\r\nx-api-key: {key}\r\nuser-agent: {marker}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        head_bytes = await reader.readuntil(b"\r\n\r\n")
        status = int(head_bytes.split(b" ", 2)[1])
        answer, complete = await _read_body(reader, head_bytes.lower())
        if status >= 400:
            raise Ending("refused", status)
        good = END_MARKS[path] in answer and b'"error"' not in answer if stream else True
        raise Ending("whole" if complete and good else "cut", status)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._opened is None or self._opened[0].at_eof() or self._chance.random() < 0.2:
            self._close()
            self._opened = await asyncio.open_connection("127.0.0.1", self._order.port)
        return self._opened

    def _close(self) -> None:
        if self._opened is not None:
            self._opened[1].transport.abort()
            self._opened = None

    def _note(self, **members: object) -> None:
        line = json.dumps({"at": round(time.time(), 3), **members})
        os.write(self._log, line.encode() + b"\n")


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> tuple[bytes, bool]:
    if b"content-length: " in head:
        size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        return await reader.readexactly(size), True
    answer = b""
    while True:
        try:
            size = int(await reader.readuntil(b"\r\n"), 16)
            chunk = await reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, OSError, ValueError):
            return answer, False
        if size == 0:
            return answer, True
        answer += chunk[:-2]


async def main(order: Order) -> None:
    """Run all lanes."""
    log = os.open(order.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    lanes = [Lane(number, order, log) for number in order.lanes]
    await asyncio.gather(*(lane.run() for lane in lanes))


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order)))
