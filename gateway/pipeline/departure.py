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
from types import TracebackType

from gateway.core.model import Wire
from gateway.core.routing import Candidate
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


class ReadingOn:
    """While entered, a client that leaves ends its call only after `DRAIN_S`."""

    __slots__ = ("_before", "_channel", "_timer")

    def __init__(self, channel: ClientChannel) -> None:
        self._channel = channel
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        """Replace the callback that ends the call at once."""
        self._before = None
        self._before = self._channel.on_gone(self._left)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the callback, unless the response has begun or the client is gone."""
        if self._timer is not None:
            self._timer.cancel()
        if not (self._channel.started or self._channel.gone):
            self._channel.on_gone(self._before)

    def _left(self) -> None:
        if self._before is not None:
            self._timer = asyncio.get_running_loop().call_later(DRAIN_S, self._before)
