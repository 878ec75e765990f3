"""
A provider that sends exactly the bytes of a script, and records exactly the bytes received.

It runs on a thread of its own, so that blocking tests can talk to the gateway meanwhile. Each test
gets a slot: a provider with models of its own under a path of its own, so that nothing of one
test, be it a script or a breaker that opened, reaches the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.demo.server import Exchange
from tests.support.scripted import ScriptedThread

__all__ = ["SSE", "Exchange", "RawUpstream", "Script", "Slot", "close_at_once", "stream", "whole"]

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"


Script = Callable[[Exchange], Awaitable[None]]


def whole(body: bytes, status: int = 200, *, headers: bytes = b"") -> Script:
    """Return a script that responds with a JSON body, or with any."""
    kind = b"" if b"ontent-" in headers else b"Content-Type: application/json\r\n"

    async def play(exchange: Exchange) -> None:
        head = b"HTTP/1.1 %d Status\r\n%b%bContent-Length: %d\r\n\r\n"
        await exchange.send(head % (status, kind, headers, len(body)) + body)

    return play


def stream(*pieces: bytes | float, end: str = "clean", headers: bytes = b"") -> Script:
    """
    Return a script that streams.

    Args:
        pieces: Bytes go out as one chunk each; a number is a pause in seconds.
        end: `clean` ends the body, `break` closes the connection inside of it, `hang` waits until
            the gateway goes away.
        headers: Further lines of the head.
    """

    async def play(exchange: Exchange) -> None:
        await exchange.send(SSE + headers + b"\r\n")
        for piece in pieces:
            if isinstance(piece, bytes):
                await exchange.chunk(piece)
            else:
                await asyncio.sleep(piece)
        if end == "clean":
            await exchange.send(b"0\r\n\r\n")
        elif end == "break":
            exchange.close()
        else:
            await exchange.until_gone()

    return play


def close_at_once() -> Script:
    """Return a script that closes the connection without a word."""

    async def play(exchange: Exchange) -> None:
        exchange.close()

    return play


class Slot:
    """
    One provider of the raw upstream, with the models that stand on it.

    Args:
        number: Of the slot.
        hasty: The gateway gives this provider half a second for everything.
    """

    def __init__(self, number: int, *, hasty: bool) -> None:
        self.name = f"raw-{number:02d}"
        self.hasty = hasty
        self.exchanges: list[Exchange] = []
        self._scripts: list[Script] = []

    def plays(self, *scripts: Script) -> Slot:
        """Respond to the next requests with these, all further ones with the last."""
        self._scripts = [*scripts]
        return self

    def next_script(self) -> Script:
        """Return the script of the next response."""
        return self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]

    def model(self, wire: str) -> str:
        """Return the model that only this provider serves, on one wire."""
        return f"{self.name}-{wire}"

    def fallback(self, wire: str) -> str:
        """Return the model that this provider serves first, and the demo upstream next."""
        return f"{self.name}-{wire}-fallback"

    def config(self, port: int, key_file: str) -> str:
        """Return the TOML of the provider and its models."""
        base = f"http://127.0.0.1:{port}/{self.name}"
        clocks = "{first_byte_s = 0.5, first_content_s = 0.5, idle_s = 0.5, total_s = 3}"
        text = f"""
[[providers]]
name = "{self.name}"
openai = {{ base_url = "{base}/v1" }}
anthropic = {{ base_url = "{base}" }}
api_key_file = "{key_file}"
caps = {{ midconv_system = "system" }}
{f"timeouts = {clocks}" if self.hasty else ""}
"""
        for wire in ("openai", "anthropic"):
            own = f'provider = "{self.name}", model = "up-{self.name}", wires = ["{wire}"]'
            other = f'provider = "demo", model = "up-demo", wires = ["{wire}"]'
            text += f"""
[[models]]
name = "{self.model(wire)}"
deployments = [{{ {own} }}]
[[models]]
name = "{self.fallback(wire)}"
deployments = [{{ {own} }}, {{ {other} }}]
"""
        return text


class RawUpstream(ScriptedThread):
    """
    The server of all slots.

    Args:
        slots: How many tests it can serve with usual clocks, and as many with hasty ones.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(self._respond)
        self._slots = [Slot(number, hasty=number % 2 == 1) for number in range(2 * slots)]
        self._by_name = {slot.name: slot for slot in self._slots}
        self._unused = {False: self._slots[::2], True: self._slots[1::2]}

    def config(self, key_file: str) -> str:
        """Return the TOML of all slots."""
        return "".join(slot.config(self.port, key_file) for slot in self._slots)

    def take(self, *, hasty: bool = False) -> Slot:
        """Return the slot that has been out of use for longest."""
        return self._unused[hasty].pop(0)

    def give_back(self, slot: Slot) -> None:
        """Take a slot back for a later test."""
        slot.exchanges = []
        slot.plays(close_at_once())
        self._unused[slot.hasty].append(slot)

    def slot(self, target: str) -> Slot:
        """Return the slot that a request is for."""
        return self._by_name[target.split("/")[1]]

    async def _respond(self, exchange: Exchange) -> None:
        slot = self.slot(exchange.target)
        slot.exchanges.append(exchange)
        await slot.next_script()(exchange)
