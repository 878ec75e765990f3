"""
Clients that leave early: whether the upstream is read on for the usage, and how long.

| the client leaves | `cancel` | `auto` | `drain` |
| --- | --- | --- | --- |
| when all content has come and only the report is missing | 5 s | 5 s | 60 s |
| earlier; the model may reason unseen | closed at once | 60 s | 60 s |
| earlier; every token shows | closed at once | closed at once | 60 s |

Output that was sent can be counted by the gateway; hidden reasoning is known only from the usage
report. A model may reason unseen if it has a price for reasoning. Unless its dialect shows
reasoning as content, it may also do so if the request asks for reasoning, or if the dialect reasons
by default and the request does not say `none`.

Whole responses follow the same rule from the moment the request is sent. A client gains nothing by
leaving before any output, so the gateway bears what remains unknown after the time limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from gateway.core.model import Wire
from gateway.core.routing.plan import Candidate
from gateway.pipeline.client.channel import ClientChannel
from gateway.protocols.translate.capabilities import Capabilities

DRAIN_S = 60.0
DRAIN_BYTES = 16 * 1024 * 1024
"""How long and how far a response is read on for its usage after its client left."""


def may_hide_reasoning(candidate: Candidate, caps: Capabilities, asked: bool | None) -> bool:
    """
    Return whether a deployment may bill reasoning that it does not send.

    Args:
        asked: The request switches reasoning on or off; None: neither.
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
        """Write nothing more; end at once, or after reading on for the usage."""


class Departure:
    """
    What happens when the client of a call leaves, by what the call is doing.

    Before a request is sent the call is cancelled. While an upstream is read on for its usage it is
    cancelled after `DRAIN_S`. A relayed response ends itself. After that, and where `disregard` was
    called, nothing happens.

    Args:
        channel: The client.
        task: The call's task.
    """

    __slots__ = ("_channel", "_disregarded", "_reads_on", "_relays", "_task", "_timer")

    def __init__(self, channel: ClientChannel, task: asyncio.Task[object]) -> None:
        self._channel = channel
        self._task = task
        self._disregarded = False
        self._reads_on = 0
        self._relays: tuple[Departs, ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Watch for the client's end. For use after the body was read, once."""
        self._channel.watch_gone(self._client_left)

    def disregard(self) -> None:
        """Complete the call from now on, whether or not the client is there."""
        self._disregarded = True

    @contextmanager
    def reading_on(self) -> Iterator[None]:
        """While entered, a client that leaves ends its call only after `DRAIN_S`."""
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
        While entered, `relay` decides; at once if the client has already left.

        Each of several relays at the same time decides for itself.
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
            self._timer = loop.call_later(DRAIN_S, self._task.cancel)
        else:
            self._task.cancel()
