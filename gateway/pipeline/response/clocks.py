"""
Decides by time what happens to a running response: commit, ping, end or wait.

Pure: the relay passes its state and carries out the decision.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

import msgspec

from gateway.core.model import Clocks
from gateway.errors import ErrorKind, GatewayError

COMMIT_S = 10.0
"""A stream's head is sent this long after the upstream's, even without an event."""
SILENT_FINISH_S = 5.0
"""How long usage and the end mark may take after the finish reason."""
SILENT_END_S = 1.0
"""How long the end of the body may take after the end mark, or the translation's end."""


class ClientClocks(NamedTuple):
    """Limits in seconds on the client's side, independent of the upstream."""

    stall_s: float
    """A write that takes longer ends the call."""
    keepalive_s: float
    """A stream that is silent for longer gets a keep-alive; 0: none."""


class Step(Enum):
    """A decision that needs no value."""

    WAIT = auto()
    COMMIT = auto()
    """Send the response head."""
    PING = auto()
    FINISH = auto()
    """End the response as complete: only the end of its body is missing."""
    STOP = auto()
    """Stop reading for the usage of a client that has left: a limit is reached."""


class Expire(NamedTuple):
    """A limit is exceeded: end the response with `error`."""

    what: str
    limit_s: float

    @property
    def error(self) -> GatewayError:
        """The error for the client and the log."""
        return GatewayError(
            ErrorKind.UPSTREAM_TIMEOUT,
            "The upstream model did not respond in time.",
            detail=f"{self.what}: over {self.limit_s:g} s",
        )


class StreamClocks(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one response at one moment; times are monotonic seconds."""

    limits: Clocks
    sent_at: float
    """When the attempt's request was sent."""
    opened_at: float
    """When the upstream's response head arrived."""
    last_content_at: float | None = None
    """Comments and pings do not count as content."""
    last_read_at: float
    last_write_at: float
    resumed_at: float = 0.0
    """When the upstream was last resumed after a slow write."""
    stream: bool = True
    committed: bool = False
    writing: bool = False
    """A write waits for the client; it has its own time limit."""
    keepalive_s: float = 0.0
    """A committed stream without output for this long gets a keep-alive; 0: never."""
    finished: bool = False
    """The finish reason was received, or the upstream has failed."""
    ended: bool = False
    """The end mark was received, or the translation is complete."""
    read_on_until: float | None = None
    """The client has left; until then the upstream is read for its usage."""
    billable: bool = False
    """All content and its usage were received."""

    def decide(self, now: float) -> Step | Expire:
        """Return the step that is due at `now`."""
        limits = self.limits
        if self.read_on_until is not None:
            return self._decide_read_on(now, self.read_on_until)
        if now - self.sent_at > limits.total_s:
            return Expire("total", limits.total_s)
        if self.writing:
            return Step.WAIT
        if self.stream and self.finished:
            return self._decide_finished(now)
        return self._decide_running(now)

    def _decide_read_on(self, now: float, until: float) -> Step:
        is_late = now > until
        if self.billable:
            is_silent = now - self.last_read_at > SILENT_END_S
            return Step.FINISH if is_late or is_silent else Step.WAIT
        return Step.STOP if is_late else Step.WAIT

    def _decide_finished(self, now: float) -> Step:
        silent_s = SILENT_END_S if self.ended else SILENT_FINISH_S
        if now - self.last_read_at > silent_s or now - self._alive_at > self.limits.idle_s:
            return Step.FINISH
        return Step.WAIT

    def _decide_running(self, now: float) -> Step | Expire:
        limits = self.limits
        if self.last_content_at is None:
            first_s = limits.first_content_s if self.stream else limits.first_byte_s
            if now - self.sent_at > first_s:
                return Expire("first content", first_s)
        elif now - self._alive_at > limits.idle_s:
            return Expire("next content", limits.idle_s)
        if not self.stream:
            return Step.WAIT  # after an empty head, no other deployment could be tried
        if not self.committed and now - self.opened_at > COMMIT_S:
            return Step.COMMIT
        # After bytes before the commit, no other deployment could be tried.
        if self.committed and 0.0 < self.keepalive_s < now - self.last_write_at:
            return Step.PING
        return Step.WAIT

    @property
    def _alive_at(self) -> float:
        last = self.last_content_at
        return max(last if last is not None else self.sent_at, self.resumed_at)
