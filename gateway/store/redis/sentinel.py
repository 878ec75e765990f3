"""Finds the primary of a service by its Sentinels, through redis-py."""

from __future__ import annotations

from typing import Any

import msgspec
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from gateway.settings.urls import host_and_port

_SENTINEL_TIMEOUT_S = 0.5
"""Per Sentinel, so that one which does not respond leaves time for the others."""


class SentinelGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The Sentinels of one service. Its `repr` shows no credential."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    username: str | None
    password: str | None
    options: dict[str, Any]
    """TLS, by redis-py's names."""

    @property
    def label(self) -> str:
        """The service and its Sentinels, for logs."""
        hosts = ",".join(host_and_port(host, port) for host, port in self.sentinels)
        return f"{self.service} of Sentinels {hosts}"

    def __repr__(self) -> str:
        return f"SentinelGroup({self.label})"

    async def discover_master(self, service: str) -> tuple[str, int]:
        """
        Return host and port of the primary; the method that redis-py's pool expects of its manager.

        Raises:
            redis.exceptions.RedisError: No Sentinel responds, or none knows a usable primary.
        """
        manager = Sentinel(  # type: ignore[no-untyped-call] # its stub
            list(self.sentinels),
            sentinel_kwargs={
                "username": self.username,
                "password": self.password,
                "socket_timeout": _SENTINEL_TIMEOUT_S,
                "socket_connect_timeout": _SENTINEL_TIMEOUT_S,
                # The next Sentinel is the retry.
                "retry": Retry(NoBackoff(), 0),
                **self.options,
            },
        )
        try:
            host, port = await manager.discover_master(service)
        finally:
            for sentinel in manager.sentinels:
                await sentinel.aclose()
        return str(host), int(port)
