"""
Probes that operators ask for, through Redis.

A probe is published on the channel of health changes. The first worker that claims it sends it, and
publishes the outcomes, from which all workers learn which credentials work. It also keeps them for
a while under the probe's id, for the requester.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from gateway.core.routing.probes import Probe
from gateway.store.health.shared import health_channel

APART_MS: Final = 3_000
"""The time between two probes of a deployment: each is a call that the upstream charges."""
_CLAIMED_S: Final = 60
_KEPT_S: Final = 120

_PROBE: Final = msgspec.json.Decoder(Probe)


class RedisProbes:
    """
    Both sides of a probe. Any method may raise what `command` raises.

    Args:
        command: Sends one command to Redis.
        key_prefix: `redis.key_prefix`.
    """

    def __init__(self, command: Callable[..., Awaitable[Any]], key_prefix: str) -> None:
        self._command = command
        self._prefix = f"{key_prefix}health:asked:"
        self._channel = health_channel(key_prefix)

    async def may_ask(self, deployment: str) -> bool:
        """Return False if the deployment was probed a moment ago."""
        key = f"{self._prefix}of:{deployment}"
        return await self._command("SET", key, "1", "NX", "PX", str(APART_MS)) is not None

    async def ask(self, probe: Probe) -> int:
        """Publish a probe; return how many workers received it."""
        return int(await self._command("PUBLISH", self._channel, msgspec.json.encode(probe)))

    async def outcome(self, probe_id: str) -> Probe | None:
        """Return a probe with its outcomes; None: it is not finished."""
        found = await self._command("GET", f"{self._prefix}{probe_id}")
        return _PROBE.decode(found) if isinstance(found, bytes) else None

    async def claim(self, probe_id: str) -> bool:
        """Return whether this worker is to send a probe."""
        key = f"{self._prefix}{probe_id}:by"
        return await self._command("SET", key, "1", "NX", "EX", str(_CLAIMED_S)) is not None

    async def finish(self, probe: Probe) -> None:
        """Keep and publish the outcomes of a probe."""
        encoded = msgspec.json.encode(probe)
        await self._command("SET", f"{self._prefix}{probe.probe}", encoded, "EX", str(_KEPT_S))
        await self._command("PUBLISH", self._channel, encoded)
