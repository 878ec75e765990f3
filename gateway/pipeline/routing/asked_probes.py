"""Sends the probes that operators ask for, and learns from those that other workers sent."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

import msgspec

from gateway.core.routing.probes import Probe
from gateway.pipeline.routing.prober import Prober

MAX_RUNNING = 4
"""Probes at once in one worker; others are left to other workers."""
logger = logging.getLogger(__name__)


class SharedProbes(Protocol):
    """Decides which worker sends a probe, and receives its outcomes. May raise anything."""

    async def claim(self, probe_id: str) -> bool:
        """Return whether this worker is to send a probe."""

    async def finish(self, probe: Probe) -> None:
        """Publish the outcomes of a probe to all workers and to the requester."""


class AskedProbes:
    """
    The probes that one worker is asked for.

    Args:
        prober: Sends them.
        shared: Shares them.
    """

    def __init__(self, prober: Prober, shared: SharedProbes) -> None:
        self._prober = prober
        self._shared = shared
        self._running: set[asyncio.Task[None]] = set()

    def received(self, probe: Probe) -> None:
        """Handle a probe that was published."""
        if probe.outcomes is not None:
            self._prober.learn(probe)
        elif len(self._running) < MAX_RUNNING and self._prober.knows(probe.deployment):
            task = asyncio.create_task(self._send(probe))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def aclose(self) -> None:
        """Give up the probes that are running."""
        running = [*self._running]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _send(self, probe: Probe) -> None:
        try:
            if await self._shared.claim(probe.probe):
                outcomes = await self._prober.test(probe.deployment)
                await self._shared.finish(msgspec.structs.replace(probe, outcomes=outcomes))
        except Exception:  # the root of a task: the requester gets no outcome
            logger.exception("asked_probe_failed", extra={"deployment": probe.deployment})
