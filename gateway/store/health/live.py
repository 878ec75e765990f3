"""
The reports of all workers about their running calls, in Redis.

Each worker keeps one key that expires soon after its last report, and is listed in a sorted set by
the time of that report. Neither holds anything of a request.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec

from gateway.core.routing.live import LiveReport
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import Reply

LIFE_S: Final = 6
"""Three reports: a worker that sent none for this time is gone."""
MAX_WORKERS: Final = 500
_LISTED_S: Final = 120
"""How long a worker stays in the set; pods' clocks may differ by a part of it."""

_REPORT: Final = msgspec.json.Decoder(LiveReport)


class LiveReports:
    """
    Publishes the reports of a worker, and reads those of all.

    Args:
        redis: Replies to what is published are not awaited.
        key_prefix: `redis.key_prefix`.
    """

    def __init__(self, redis: RedisBus, key_prefix: str) -> None:
        self._redis = redis
        self._workers = f"{key_prefix}live:workers"
        self._prefix = f"{key_prefix}live:worker:"

    def publish(self, report: LiveReport) -> None:
        """Replace the report of a worker."""
        now = time.time()
        encoded = msgspec.json.encode(report)
        self._send("SET", f"{self._prefix}{report.worker}", encoded, "EX", str(LIFE_S))
        self._send("ZADD", self._workers, f"{now:.0f}", report.worker)
        self._send("ZREMRANGEBYSCORE", self._workers, "-inf", f"{now - _LISTED_S:.0f}")
        self._send("EXPIRE", self._workers, str(_LISTED_S))

    def withdraw(self, worker: str) -> None:
        """Remove the report of a worker that ends."""
        self._send("DEL", f"{self._prefix}{worker}")
        self._send("ZREM", self._workers, worker)

    async def read(self) -> list[LiveReport]:
        """
        Return the reports of all workers, at most MAX_WORKERS, by pod and worker.

        Raises:
            RedisUnavailable, ReplyError: Redis does not respond.
        """
        listed = await self._redis.command("ZREVRANGE", self._workers, "0", str(MAX_WORKERS - 1))
        names = (
            [each.decode() for each in listed if isinstance(each, bytes)]
            if isinstance(listed, list)
            else []
        )
        replies = await asyncio.gather(
            *(self._redis.command("GET", f"{self._prefix}{name}") for name in names)
        )
        found = [_read(each) for each in replies if isinstance(each, bytes)]
        known = [each for each in found if each is not None]
        return sorted(known, key=lambda report: (report.pod, report.worker))

    def _send(self, *command: str | bytes) -> None:
        self._redis.command(*command).add_done_callback(_retrieve)


def _read(encoded: bytes) -> LiveReport | None:
    try:
        return _REPORT.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError):  # of another version
        return None


def _retrieve(reply: asyncio.Future[Reply]) -> None:
    """Retrieve a command's outcome, so that asyncio does not report a failure as unhandled."""
    if not reply.cancelled():
        reply.exception()
