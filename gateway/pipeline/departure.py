"""
Calls that end early: because their client leaves, or because the worker ends.

When a client leaves, the upstream may still be read for its usage report:

| the client leaves | `cancel` | `auto` | `drain` |
| --- | --- | --- | --- |
| when only the usage report is missing | 5 s | 5 s | 60 s |
| earlier, and the model may hide reasoning | closed at once | 60 s | 60 s |
| earlier, and all output is visible | closed at once | closed at once | 60 s |

The gateway can count visible output; hidden reasoning is known only from the usage report. A model
may hide reasoning if it has a price for reasoning. Unless its dialect shows reasoning as content,
it may also do so if the request enables reasoning, or if the dialect reasons by default and the
request does not disable it.

Whole responses follow the same rule once the request is sent. A client gains nothing by leaving
before any output, so usage that is still unknown after the time limit is not charged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from gateway.core.model import Wire
from gateway.core.routing.plan import Candidate
from gateway.errors import GatewayError
from gateway.pipeline.client.channel import ClientChannel
from gateway.protocols.translate.capabilities import Capabilities

DRAIN_S = 60.0
DRAIN_BYTES = 16 * 1024 * 1024
"""Limits of time and size for reading a response after its client has left."""


def may_hide_reasoning(candidate: Candidate, caps: Capabilities, asked: bool | None) -> bool:
    """
    Return whether a deployment may bill reasoning that it does not send.

    Args:
        asked: Whether the request enables or disables reasoning; None: neither.
    """
    if candidate.deployment.prices_reasoning:
        return True
    if caps.reasoning_in is not None:
        return False
    if asked is not None:
        return asked
    return candidate.wire is Wire.OPENAI and bool(caps.efforts)


class Departs(Protocol):
    """A response under way that ends itself when its client leaves."""

    def client_left(self) -> None:
        """Write nothing more; end at once, or after reading the usage report."""

    def end(self, error: GatewayError) -> None:
        """End with `error`, where an event may follow what was written."""


class Departure:
    """
    Decides what happens when the client of a call leaves, or the worker ends.

    Before a request is sent, the call is cancelled. While an upstream is read for its usage, the
    call is cancelled after `DRAIN_S`. A relayed response ends itself. After that, or after
    `disregard`, nothing happens.

    Args:
        channel: The client.
        task: The call's task.
    """

    __slots__ = (
        "_channel",
        "_disregarded",
        "_ended",
        "_reads_on",
        "_relays",
        "_timer",
        "error",
        "task",
    )

    def __init__(self, channel: ClientChannel, task: asyncio.Task[object]) -> None:
        self._channel = channel
        self.task = task
        self._disregarded = False
        self._ended = False
        self._reads_on = 0
        self._relays: tuple[Departs, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self.error: GatewayError | None = None
        """Why the gateway itself cancelled the call."""

    def watch(self) -> None:
        """Start watching for the client to leave. Call it once, after the body was read."""
        self._channel.watch_gone(self._client_left)

    def disregard(self) -> None:
        """Complete the call even if the client leaves."""
        self._disregarded = True

    def conclude(self) -> None:
        """Let nothing interrupt the call from now on: it is being settled."""
        self._disregarded = self._ended = True

    def end(self, error: GatewayError) -> None:
        """End the call with `error`: as the end of its stream, or instead of its response."""
        if self._ended:
            return
        if self._channel.started:
            for relay in self._relays:
                relay.end(error)
        else:
            self.error = error
            self.task.cancel()

    def cancel(self) -> None:
        """End the call at once; a response that was begun remains incomplete."""
        if not self._ended:
            self.task.cancel()

    @contextmanager
    def reading_on(self) -> Iterator[None]:
        """Within the context, a client that leaves ends its call only after `DRAIN_S`."""
        self._reads_on += 1
        try:
            yield
        finally:
            self._reads_on -= 1
            if self._timer is not None and not self._reads_on:
                self._timer.cancel()

    @contextmanager
    def relaying(self, relay: Departs) -> Iterator[None]:
        """
        Within the context, `relay` decides; at once if the client has already left.

        Several concurrent relays decide independently.
        """
        self._relays = (*self._relays, relay)
        if self._channel.gone:
            self._client_left()
        try:
            yield
        finally:
            if len(self._relays) == 1:
                self._relays = ()
            else:
                self._relays = tuple(each for each in self._relays if each is not relay)

    def _client_left(self) -> None:
        if self._disregarded:
            return
        if self._relays:
            for relay in self._relays:
                relay.client_left()
        elif self._channel.started:
            return  # all that is left is to end and record the call
        elif self._reads_on:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(DRAIN_S, self.task.cancel)
        else:
            self.task.cancel()
