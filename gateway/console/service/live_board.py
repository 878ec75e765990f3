"""Reads the running calls of all workers and the last ended ones, once for all viewers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.core.model import CallRecord
from gateway.core.routing.live import EVERY_S, LiveLine, LiveReport
from gateway.errors import GatewayError
from gateway.store.health.live import LiveReports
from gateway.store.redis.client import RedisUnavailable, ReplyError
from gateway.store.reports.calls import CallLists, CallsQuery
from gateway.store.reports.directory import Directory, KeyNames

if TYPE_CHECKING:
    from gateway.console.stores import Stores

logger = logging.getLogger(__name__)

MAX_VIEWERS: Final = 20
LAST_CALLS: Final = 50
_SINCE_MS: Final = 3_600_000
"""Ended calls that are older are not shown."""
_KEPT_S: Final = EVERY_S * 0.9


class Pod(msgspec.Struct, kw_only=True):
    """The workers of a host."""

    name: str
    versions: tuple[str, ...] = ()
    workers: int = 0
    running: int = 0


class LiveFrame(msgspec.Struct, frozen=True, kw_only=True):
    """The calls at one time."""

    at: int
    """Unix seconds."""
    reports: tuple[LiveReport, ...] | None
    """None: Redis does not respond."""
    calls: tuple[CallRecord, ...] | None
    """Newest first; None: SQL does not respond."""
    names: Mapping[str, KeyNames] = {}
    """Of the calls' keys, by id."""


class LiveBoard:
    """
    Reads a frame at most every 2 seconds, for any number of viewers.

    Args:
        stores: Redis and SQL.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._reports = LiveReports(stores.redis, stores.settings.redis.key_prefix)
        self._kept: LiveFrame | None = None
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()
        self._viewers = 0

    @property
    def is_full(self) -> bool:
        """Whether the limit of simultaneous viewers is reached."""
        return self._viewers >= MAX_VIEWERS

    @contextmanager
    def viewing(self) -> Iterator[None]:
        """Count a viewer."""
        self._viewers += 1
        try:
            yield
        finally:
            self._viewers -= 1

    async def read(self) -> LiveFrame:
        """Return the present calls."""
        async with self._lock:
            if self._kept is None or time.monotonic() - self._read_at > _KEPT_S:
                self._kept = await self._read()
                self._read_at = time.monotonic()
            return self._kept

    async def reports(self) -> tuple[LiveReport, ...] | None:
        """Return what all workers report; None: Redis does not respond."""
        try:
            return tuple(await self._reports.read())
        except (RedisUnavailable, ReplyError):
            return None

    async def _read(self) -> LiveFrame:
        now = time.time()
        reports = await self.reports()
        names: Mapping[str, KeyNames] = {}
        calls: tuple[CallRecord, ...] | None
        try:
            calls = await self._calls(int(now * 1000))
            keys = {each.key_id for each in calls}
            if keys:
                names = await Directory(self._stores.database).key_names(keys)
        except GatewayError:
            calls = None
        return LiveFrame(at=int(now), reports=reports, calls=calls, names=names)

    async def _calls(self, now_ms: int) -> tuple[CallRecord, ...]:
        which = CallsQuery(account_id=None, since_ms=now_ms - _SINCE_MS, until_ms=2**62)
        return tuple(await CallLists(self._stores.database).page(which, limit=LAST_CALLS))


def merged(reports: Iterable[LiveReport], order: Sequence[tuple[str, str]]) -> list[LiveLine]:
    """
    Return the calls of all workers by model and deployment.

    Args:
        reports: Of the workers.
        order: Models and deployments in the order of the catalogue; others follow by name.
    """
    found: dict[tuple[str, str], LiveLine] = {}
    for report in reports:
        for each in report.lines:
            key = each.model, each.deployment
            line = found.setdefault(key, LiveLine(model=each.model, deployment=each.deployment))
            line.add(each)
    places = {key: place for place, key in enumerate(order)}
    keys = sorted(found, key=lambda key: (places.get(key, len(places)), key))
    return [found[key] for key in keys]


def pods_of(reports: Iterable[LiveReport]) -> list[Pod]:
    """Return the hosts of the workers, by name."""
    found: dict[str, Pod] = {}
    for report in reports:
        pod = found.setdefault(report.pod, Pod(name=report.pod))
        pod.workers += 1
        pod.running += report.running
        pod.versions = tuple(sorted({*pod.versions, report.version}))
    return [found[name] for name in sorted(found)]
