"""
What the bound on the nesting of JSON costs: microseconds to read a request, with and without it.

    python -m bench.micro.nesting

The lowest of many runs, for prompts in one string, and for conversations whose messages, tool calls
and tools have as many brackets as those of agents.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from functools import partial
from timeit import repeat
from unittest.mock import patch

from gateway.core.model import Wire
from gateway.protocols.codec import json_decode
from gateway.protocols.http.request import fields

SIZES = (60, 400, 2_000, 10_000, 100_000, 400_000)
CODE = 'if (rows[0]) {\n    return { "total": rows.map((row) => row.total) };\n}\n'
TURN = [
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I look at the file."},
            {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"at": {"line": 3}}},
        ],
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "toolu_1",
                "content": [{"type": "text", "text": CODE * 30}],
            }
        ],
    },
]


def prompt(size: int) -> bytes:
    """Return a request of about `size` bytes with one message."""
    words = ("word " * (size // 5))[: max(size - 60, 0)]
    message = {"role": "user", "content": words}
    return json.dumps({"model": "m", "max_tokens": 9, "messages": [message]}).encode()


def conversation(size: int) -> bytes:
    """Return a request of about `size` bytes with calls of tools."""
    turns = TURN * max(1, size // len(json.dumps(TURN)))
    return json.dumps({"model": "m", "max_tokens": 9, "messages": turns}).encode()


def lowest_us(work: Callable[[], object], runs: int) -> float:
    """Return the lowest time of one run."""
    return min(repeat(work, number=10, repeat=runs)) / 10 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--runs", type=int, default=100, help="runs of ten calls for a figure")
    runs = parser.parse_args().runs
    print(f"Python {platform.python_version()}\n\n| request | bytes | brackets | us | unbounded |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for make in (prompt, conversation):
        for size in SIZES if make is prompt else SIZES[3:]:
            body = make(size)
            brackets = body.count(b"{") + body.count(b"[")
            work = partial(fields.decode_call, body, Wire.ANTHROPIC)
            bounded = lowest_us(work, runs)
            with (
                patch.object(fields, "SHALLOW_BYTES", len(body)),
                patch.object(json_decode, "SHALLOW_BYTES", len(body)),
            ):
                unbounded = lowest_us(work, runs)
            name = make.__name__
            print(f"| {name} | {len(body):,} | {brackets:,} | {bounded:.1f} | {unbounded:.1f} |")


if __name__ == "__main__":
    main()
