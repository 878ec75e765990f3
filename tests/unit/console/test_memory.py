"""Requests of a console whose memory has run out."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from typing import Any

import pytest

from gateway.console import memory

SHORTAGES = (
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("can't start new thread"),
    ExceptionGroup("of a stream", [ValueError(), MemoryError()]),
)
OTHERS = (ValueError(), RuntimeError("no"), OSError(errno.ENOENT, "No such file"))


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("error", [*SHORTAGES, *OTHERS], ids=repr)
async def test_shortage_ends_the_process_with_503(
    error: Exception, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response that has begun is broken off; any other error is passed on."""
    stopped: list[str] = []
    alarms: list[int] = []
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(signal, "alarm", alarms.append)

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    guarded = memory.ending_without_memory(application, lambda: stopped.append("stop"))
    is_shortage = error in SHORTAGES
    if is_shortage and not begun:
        await guarded({"path": "/app"}, None, send)
    else:
        with pytest.raises(type(error)):
            await guarded({"path": "/app"}, None, send)

    assert stopped == (["stop"] if is_shortage else [])
    assert alarms == ([memory.LAST_S] if is_shortage else [])
    statuses = [each["status"] for each in sent if "status" in each]
    assert statuses == ([200] if begun else [503] if is_shortage else [])


def test_hashes_of_passwords_leave_no_memory_behind() -> None:
    """In a process of its own: after twenty hashes in two threads it is as large as before."""
    code = """
import asyncio
from pathlib import Path
from gateway.console.memory import return_large_blocks
from gateway.console.signin.passwords import Passwords

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

async def main():
    return_large_blocks()
    passwords = Passwords()
    for _ in range(5):
        before = resident()
        await asyncio.gather(*(passwords.hash("seven quiet herons") for _ in range(4)))
    print(resident() - before, resident() - first)

first = resident()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60
    )
    last, whole = map(int, done.stdout.split())

    assert last < 2**20
    assert whole < 8 * 2**20
