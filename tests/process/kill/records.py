"""What the kill test's clients and its upstream have written down, joined by call."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.model import Usage

_UNENDED = {
    "usage_sent": False, "marks": [], "content_bytes": 0, "usage": msgspec.structs.asdict(Usage())
}  # fmt: skip


class Call(msgspec.Struct):
    """What the client and the upstream know of a call."""

    marker: str
    lane: int
    began: float
    ended: float = 0.0
    how: str = "killed"
    status: int = 0
    next_began: float = float("inf")
    """When the lane began its next call."""
    attempts: list[dict[str, Any]] = []


def read_calls(client_logs: Iterable[Path], record: Path) -> dict[str, Call]:
    """Join the clients' logs and the upstream's record."""
    calls: dict[str, Call] = {}
    last: dict[int, Call] = {}
    for path in client_logs:
        for line in _lines(path):
            if line["e"] == "begin":
                call = Call(line["marker"], line["lane"], line["at"])
                if call.lane in last:
                    last[call.lane].next_began = call.began
                last[call.lane] = calls[call.marker] = call
            else:
                call = calls[line["marker"]]
                call.ended, call.how, call.status = line["at"], line["how"], line["status"]
    attempts: dict[str, dict[str, Any]] = {}
    for line in _lines(record):
        if line["e"] == "begin":
            attempts[line["id"]] = attempt = {**line, **_UNENDED}
            calls[line["marker"]].attempts.append(attempt)
        else:
            attempts[line["id"]].update({k: v for k, v in line.items() if k not in ("at", "e")})
    return calls


def has_ended(record: Path) -> bool:
    """Return whether the upstream is done with every request."""
    kinds = Counter(line["e"] for line in _lines(record))
    return kinds["begin"] == kinds["end"]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line.endswith(b"}")]
