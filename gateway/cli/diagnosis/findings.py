"""The findings of `capio doctor`, and how latencies and clocks are judged."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from statistics import median

import msgspec

_PINGS = 5
MOST_SKEW_S = 2.0
"""Larger differences are reported: leases and limits use the clocks of Redis and this machine."""


class State(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """One result of `capio doctor`."""

    subject: str
    state: State
    detail: str
    remedy: str | None = None
    """What to do; None if nothing is wrong."""


def ok(subject: str, detail: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(subject, State.OK, detail)


def warning(subject: str, detail: str, remedy: str) -> Finding:
    """Return a finding about something that works, but may fail or lose data."""
    return Finding(subject, State.WARNING, detail, remedy)


def error(subject: str, detail: str, remedy: str) -> Finding:
    """Return a finding about something that does not work."""
    return Finding(subject, State.ERROR, detail, remedy)


async def latency_ms(ping: Callable[[], Awaitable[object]]) -> float:
    """Return the median round trip in milliseconds."""
    times: list[float] = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await ping()
        times.append(time.perf_counter() - started)
    return median(times) * 1000


def clock(subject: str, theirs_s: float, before_s: float, after_s: float) -> Finding:
    """
    Return a finding about another machine's clock.

    Args:
        subject: The subject of the finding.
        theirs_s: The other machine's Unix seconds.
        before_s: This machine's Unix seconds before `theirs_s` was read.
        after_s: This machine's Unix seconds after it was read.
    """
    skew = max(before_s - theirs_s, theirs_s - after_s, 0.0)
    if skew <= MOST_SKEW_S:
        return ok(subject, "its clock agrees with this machine's")
    return warning(
        subject,
        f"its clock differs from this machine's by {skew:.1f} s",
        "synchronise both by NTP",
    )
