"""Reads the health of deployments that workers keep in Redis, for commands and consoles."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from redis.asyncio import Redis

from gateway.core.routing.health import (
    OLDEST_S,
    TTFT_STEPS,
    HealthChange,
    HealthState,
    ttft_bound_s,
)
from gateway.store.health.shared import minute_key, read_states, states_key

MOST_MINUTES: Final = 120
OF_CLIENTS: Final = frozenset({"client", "unsupported"})
"""Classes of failures that a request causes, not the provider."""
_FAILED: Final = "failed:"
_TTFT: Final = "ttft:"


class DeploymentReport(msgspec.Struct, kw_only=True):
    """The attempts of one deployment in the last minutes, over all workers."""

    deployment: str
    state: HealthState = HealthState.READY
    reason: str | None = None
    """Class of the failure that led to the state."""
    attempts: int = 0
    ok: int = 0
    failures: dict[str, int] = {}
    ttft_p50_ms: int | None = None
    """Upper bound of the histogram step of the median; None without streams."""
    ttft_p95_ms: int | None = None


class MinuteCounts(NamedTuple):
    """The attempts of one minute."""

    minute: int
    """Unix minutes."""
    attempts: int
    ok: int
    client_failures: int
    """Failures that the request caused."""

    @property
    def failed(self) -> int:
        """Failures that the request did not cause."""
        return max(self.attempts - self.ok - self.client_failures, 0)


class DeploymentMinutes(NamedTuple):
    """The report of the last minutes, and the counts of each minute of a longer time."""

    report: DeploymentReport
    strip: tuple[MinuteCounts, ...]


async def read_minutes(
    redis: Redis, key_prefix: str, labels: Sequence[str], *, recent: int, now: float | None = None
) -> list[DeploymentMinutes]:
    """
    Return the last `MOST_MINUTES` of each deployment, in their order, oldest minute first.

    Args:
        redis: A client of the gateway's Redis.
        key_prefix: `redis.key_prefix`.
        labels: Deployments.
        recent: How many of these minutes the report covers, the current one included.
        now: Unix seconds; None: the clock.
    """
    at = time.time() if now is None else now
    states = await _states(redis, key_prefix, at)
    minutes = range(int(at) // 60 - MOST_MINUTES + 1, int(at) // 60 + 1)
    found = []
    for label in labels:
        pipeline = redis.pipeline(transaction=False)
        for minute in minutes:
            pipeline.hgetall(minute_key(key_prefix, label, minute))
        hashes = await pipeline.execute()
        strip = tuple(_counts(*each) for each in zip(minutes, hashes, strict=True))
        report = _report(label, states.get(label), hashes[-recent:])
        found.append(DeploymentMinutes(report, strip))
    return found


async def read_health(
    redis: Redis,
    key_prefix: str,
    labels: Sequence[str],
    minutes: int,
    now: float | None = None,
) -> list[DeploymentReport]:
    """
    Return a report for each deployment, in their order.

    Args:
        redis: A client of the gateway's Redis.
        key_prefix: `redis.key_prefix`.
        labels: Deployments.
        minutes: How many minutes, the current one included; at most `MOST_MINUTES`.
        now: Unix seconds; None: the clock.
    """
    at = time.time() if now is None else now
    current = int(at) // 60
    states = await _states(redis, key_prefix, at)
    reports = []
    for label in labels:
        pipeline = redis.pipeline(transaction=False)
        for minute in range(current - min(minutes, MOST_MINUTES) + 1, current + 1):
            pipeline.hgetall(minute_key(key_prefix, label, minute))
        reports.append(_report(label, states.get(label), await pipeline.execute()))
    return reports


async def _states(redis: Redis, key_prefix: str, at: float) -> dict[str, HealthChange]:
    """Return the states that hold, by deployment."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.hgetall(states_key(key_prefix))
    (published,) = await pipeline.execute()
    known = read_states(published.values())
    return {each.label: each for each in known if _holds(each, at)}


def _counts(minute: int, fields: Mapping[bytes, bytes]) -> MinuteCounts:
    of_clients = sum(int(fields.get(f"{_FAILED}{name}".encode(), 0)) for name in OF_CLIENTS)
    attempts, ok = int(fields.get(b"attempts", 0)), int(fields.get(b"ok", 0))
    return MinuteCounts(minute, attempts, ok, of_clients)


def _holds(change: HealthChange, now: float) -> bool:
    """Return whether a published state still holds."""
    if change.until_ms is not None:
        return change.until_ms / 1000 > now
    return now - change.at_ms / 1000 <= OLDEST_S


def _report(
    label: str, change: HealthChange | None, hashes: Sequence[dict[bytes, bytes]]
) -> DeploymentReport:
    report = DeploymentReport(deployment=label, failures={})
    ttft = [0] * TTFT_STEPS
    for fields in hashes:
        for raw_name, raw in fields.items():
            name = raw_name.decode()
            if name == "state":
                continue
            if name.startswith(_FAILED):
                kind = name.removeprefix(_FAILED)
                report.failures[kind] = report.failures.get(kind, 0) + int(raw)
            elif name.startswith(_TTFT):
                ttft[int(name.removeprefix(_TTFT))] += int(raw)
            elif name in ("attempts", "ok"):
                setattr(report, name, getattr(report, name) + int(raw))
    report.ttft_p50_ms, report.ttft_p95_ms = (_quantile_ms(ttft, share) for share in (0.5, 0.95))
    if change is not None:
        report.state = change.state
        report.reason = None if change.failure is None else change.failure.value
    return report


def _quantile_ms(steps: Sequence[int], share: float) -> int | None:
    total = sum(steps)
    seen = 0
    for step, count in enumerate(steps):
        seen += count
        if count and seen >= share * total:
            return round(ttft_bound_s(min(step, TTFT_STEPS - 2)) * 1000)
    return None
