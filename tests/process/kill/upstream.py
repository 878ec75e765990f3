"""
The kill test's upstream, a process of its own: both wires, breaks at random, and writes down all.

    python -m tests.process.kill.upstream PORT RECORD SEED SUPERVISOR_FILE

Of each request it appends two lines of JSON to RECORD: when it has read it, and when it is done
with it: what it sent, what usage it reported, and how that ended. Each response has its own id,
`<marker>.<n>`, the marker being what the client wrote into its prompt.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

from gateway.demo.server import (
    CHUNKED_END,
    Connection,
    Exchange,
    ScriptedServer,
    each_request,
    whole,
)

MARKER = re.compile(rb"kt-\d+-[0-9a-f]{12}")
WORD = "seven b "
"""What each chunk of content holds."""
STREAM_PLANS = {
    "whole": 62, "no_usage": 6, "refuse_500": 5, "refuse_429": 3, "drop": 5, "break": 10,
    "error_event": 4, "end_early": 3, "stall": 2,
}  # fmt: skip
WHOLE_PLANS = {"whole": 75, "refuse_500": 6, "refuse_429": 2, "drop": 6, "break": 8, "stall": 3}
STALL_S = 10.0


class Workers:
    """Finds out which process has the other end of a connection."""

    def __init__(self, supervisor_file: Path) -> None:
        self._supervisor_file = supervisor_file
        self._pids: list[int] = []

    def at_other_end(self, connection: Connection) -> int:
        """Return the process id of the worker that has opened this connection; 0: it is gone."""
        theirs = connection.transport.get_extra_info("peername")[1]
        ours = connection.transport.get_extra_info("sockname")[1]
        for _ in range(3):  # the system's table may miss a line while it changes
            inode = _socket_inode(theirs, ours)
            for pid in self._pids:
                if inode and _holds(pid, inode):
                    return pid
            self._pids = _children(int(self._supervisor_file.read_text()))
        return 0


def _socket_inode(local: int, remote: int) -> str:
    for line in Path("/proc/net/tcp").read_text().split("\n")[1:]:
        fields = line.split()
        if fields and fields[1].endswith(f":{local:04X}") and fields[2].endswith(f":{remote:04X}"):
            return fields[9]
    return ""


def _holds(pid: int, inode: str) -> bool:
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            if os.readlink(entry.path) == f"socket:[{inode}]":
                return True
    except OSError:
        return False
    return False


def _children(parent: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                found.append(int(name))
    return found


class Served:
    """One request and what was sent for it."""

    def __init__(self, marker: str, number: int, wire: str, stream: bool, seed: str) -> None:
        chance = random.Random(f"{seed}:{marker}:{number}")
        self.id = f"{marker}.{number}"
        self.marker = marker
        self.wire = wire
        self.stream = stream
        plans = STREAM_PLANS if stream else WHOLE_PLANS
        self.plan = chance.choices(list(plans), list(plans.values()))[0]
        self.chunks = chance.randint(4, 80)
        self.pace_s = chance.choice((0.0, 0.005, 0.02, 0.05))
        self.stop_after = chance.randint(1, self.chunks - 1)
        self.usage = {
            "input": chance.randint(5, 500),
            "cache_read": chance.choice((0, 0, chance.randint(1, 300))),
            "cache_write": chance.choice((0, chance.randint(1, 50))) if wire == "anthropic" else 0,
            "output": self.chunks * 2,
            "reasoning": chance.choice((0, chance.randint(1, 90))) if wire == "openai" else 0,
        }
        self.usage_sent = False
        self.finish_sent = False
        self.content_bytes = 0
        self.marks: list[tuple[float, int]] = []

    def count(self) -> None:
        """Note that a chunk of content is on its way."""
        self.content_bytes += len(WORD) + 2  # the JSON string's, as the gateway estimates by
        self.marks.append((round(time.time(), 3), self.content_bytes))

    def openai_usage(self) -> dict[str, Any]:
        """Return the usage as the OpenAI wire reports it."""
        usage = self.usage
        prompt = usage["input"] + usage["cache_read"]
        completion = usage["output"] + usage["reasoning"]
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": usage["cache_read"]},
            "completion_tokens_details": {"reasoning_tokens": usage["reasoning"]},
        }

    def anthropic_usage(self, output: int) -> dict[str, int]:
        """Return the usage as the Anthropic wire reports it."""
        return {
            "input_tokens": self.usage["input"],
            "cache_read_input_tokens": self.usage["cache_read"],
            "cache_creation_input_tokens": self.usage["cache_write"],
            "output_tokens": output,
        }


class BrokenOffError(Exception):
    """The plan says: no further."""


class KillUpstream:
    """Responds, and records its responses."""

    def __init__(self, record: Path, seed: str, workers: Workers) -> None:
        self._record = os.open(record, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._seed = seed
        self._workers = workers
        self._numbers: dict[str, int] = {}

    async def visit(self, connection: Connection) -> None:
        """Serve one connection."""
        worker = self._workers.at_other_end(connection)

        async def serve(exchange: Exchange) -> None:
            await self._serve(exchange, worker)

        await each_request(serve)(connection)

    async def _serve(self, exchange: Exchange, worker: int) -> None:
        body = exchange.body
        found = MARKER.search(body)
        if found is None:
            await exchange.send(whole(b"", 404))
            return
        marker = found.group().decode()
        number = self._numbers[marker] = self._numbers.get(marker, 0) + 1
        wire = "anthropic" if "/messages" in exchange.target else "openai"
        stream = bool(json.loads(body).get("stream"))
        served = Served(marker, number, wire, stream, self._seed)
        self._note(e="begin", id=served.id, marker=marker, wire=wire, stream=stream,
                   plan=served.plan, worker=worker, body_bytes=len(body))  # fmt: skip
        how = "left"
        try:
            await _answer(served, exchange)
            how = "whole"
        except BrokenOffError:
            how = "broken"
            exchange.connection.abort()
        finally:
            self._note(e="end", id=served.id, how=how, content_bytes=served.content_bytes,
                       usage=served.usage, usage_sent=served.usage_sent,
                       finish_sent=served.finish_sent, marks=served.marks)  # fmt: skip

    def _note(self, **members: object) -> None:
        line = json.dumps({"at": round(time.time(), 3), **members})
        os.write(self._record, line.encode() + b"\n")


async def _answer(served: Served, exchange: Exchange) -> None:
    if served.plan == "drop":
        raise BrokenOffError
    if served.plan.startswith("refuse"):
        await exchange.send(_refusal(int(served.plan[-3:]), served))
    elif served.stream:
        await _stream(served, exchange)
    else:
        await _whole(served, exchange)


def _refusal(status: int, served: Served) -> bytes:
    error = {"type": "overloaded_error", "message": "not now", "code": None}
    body = json.dumps({"type": "error", "error": error}).encode()
    return _head(f"{status} No", served, "application/json", len(body)) + body


def _head(status: str, served: Served, kind: str, size: int | None) -> bytes:
    length = "transfer-encoding: chunked" if size is None else f"content-length: {size}"
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nrequest-id: {served.id}\r\n{length}\r\n\r\n"
    ).encode()


async def _stall(exchange: Exchange) -> None:
    """Send nothing until the other side has had enough."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(exchange.until_gone(), STALL_S)
    raise BrokenOffError


async def _pause(served: Served, exchange: Exchange, paces: int = 1) -> None:
    """Keep the pace, and notice that the other side has gone."""
    await asyncio.sleep(served.pace_s * paces)
    if exchange.gone_at is not None:
        raise ConnectionResetError


async def _stream(served: Served, exchange: Exchange) -> None:
    await exchange.send(_head("200 OK", served, "text/event-stream", None))
    events = _openai_events if served.wire == "openai" else _anthropic_events
    for number, (event, is_content) in enumerate(events(served)):
        if number == served.stop_after and served.plan == "break":
            raise BrokenOffError
        if number == served.stop_after and served.plan == "stall":
            await _stall(exchange)
        if number == served.stop_after and served.plan == "error_event":
            await exchange.chunk(_error_event(served.wire))
            break
        if number == served.stop_after and served.plan == "end_early":
            break
        await exchange.chunk(event)
        if is_content:
            served.count()
        await _pause(served, exchange)
    await exchange.send(CHUNKED_END)


def _error_event(wire: str) -> bytes:
    name = b"event: error\n" if wire == "anthropic" else b""
    error = {"type": "error", "error": {"type": "api_error", "message": "out of luck"}}
    return name + b"data: " + json.dumps(error).encode() + b"\n\n"


def _openai_events(served: Served) -> Any:
    def event(choices: list[Any], **more: object) -> bytes:
        head = {"id": served.id, "object": "chat.completion.chunk", "created": 1, "model": "up"}
        return b"data: " + json.dumps({**head, "choices": choices, **more}).encode() + b"\n\n"

    def choice(delta: dict[str, str], finish: str | None = None) -> list[Any]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    for _ in range(served.chunks):
        yield event(choice({"content": WORD})), True
    served.finish_sent = True
    yield event(choice({}, "stop")), False
    if served.plan != "no_usage":
        served.usage_sent = True
        yield event([], usage=served.openai_usage()), False
    yield b"data: [DONE]\n\n", False


def _anthropic_events(served: Served) -> Any:
    def event(name: str, **members: object) -> bytes:
        body = json.dumps({"type": name, **members})
        return f"event: {name}\ndata: {body}\n\n".encode()

    message: dict[str, Any] = {
        "id": served.id, "type": "message", "role": "assistant", "model": "up", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": served.anthropic_usage(1),
    }  # fmt: skip
    if served.plan == "no_usage":
        message["usage"] = {"input_tokens": 0, "output_tokens": 0}
    yield event("message_start", message=message), False
    block = {"type": "text", "text": ""}
    yield event("content_block_start", index=0, content_block=block), False
    for _ in range(served.chunks):
        delta = {"type": "text_delta", "text": WORD}
        yield event("content_block_delta", index=0, delta=delta), True
    yield event("content_block_stop", index=0), False
    ended: dict[str, Any] = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    if served.plan != "no_usage":
        ended["usage"] = {"output_tokens": served.usage["output"]}
        served.usage_sent = True
    served.finish_sent = True
    yield event("message_delta", **ended), False
    yield event("message_stop"), False


async def _whole(served: Served, exchange: Exchange) -> None:
    await _pause(served, exchange, 10)
    text = WORD * served.chunks
    if served.wire == "openai":
        message = {"role": "assistant", "content": text}
        answer: dict[str, Any] = {
            "id": served.id, "object": "chat.completion", "created": 1, "model": "up",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": served.openai_usage(),
        }  # fmt: skip
    else:
        answer = {
            "id": served.id, "type": "message", "role": "assistant", "model": "up",
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
            "stop_sequence": None, "usage": served.anthropic_usage(served.usage["output"]),
        }  # fmt: skip
    body = json.dumps(answer).encode()
    head = _head("200 OK", served, "application/json", len(body))
    if served.plan in ("break", "stall"):
        await exchange.send(head + body[: len(body) // 2])
        if served.plan == "stall":
            await _stall(exchange)
        raise BrokenOffError
    for _ in range(served.chunks):
        served.count()
    served.usage_sent = served.finish_sent = True
    await exchange.send(head + body)


async def main(port: int, record: str, seed: str, supervisor_file: str) -> None:
    """Serve until killed."""
    upstream = KillUpstream(Path(record), seed, Workers(Path(supervisor_file)))
    await ScriptedServer(upstream.visit).listen(port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]))
