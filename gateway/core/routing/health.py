"""
The health of one deployment as seen by one worker; time is passed in.

- ready: it takes calls.
- resting: it has no capacity or a rate limit was exceeded; until a time, often from `retry-after`.
- open, half_open: it failed several times in a row, see `core.circuit_breaker`.
- out: the operator's credential or credit was refused; until a probe or a call succeeds.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from typing import Final

import msgspec

from gateway.core.circuit_breaker import BreakerState, CircuitBreaker
from gateway.core.routing.credentials import LONGEST_REST_S
from gateway.core.routing.failures import RULES, Effect, FailureClass
from gateway.core.routing.order import Failure

OLDEST_S: Final = 3600.0
"""A published state that is older is ignored."""
FIRST_REST_S: Final = 1.0
LONGEST_GUESS_S: Final = 30.0
"""
Bounds of rests without `retry-after`, which double from the second consecutive refusal on.

A single refusal may concern one request only, which another deployment serves. Refusals are
consecutive if each follows within `IN_A_ROW_S` of the last rest's end, without a success between.
"""
IN_A_ROW_S: Final = 5.0
TTFT_STEPS: Final = 24
_FIRST_STEP_S: Final = 0.016
_BOUNDS: Final = [_FIRST_STEP_S * 2.0 ** (step / 2) for step in range(TTFT_STEPS - 1)]
_WEIGHT: Final = 0.2
"""Weight of the newest time to first token in the smoothed one."""


class HealthState(enum.Enum):
    """The state of a deployment. The value is the label in Redis, metrics and commands."""

    READY = "ready"
    RESTING = "resting"
    HALF_OPEN = "half_open"
    OPEN = "open"
    OUT = "out"


PROBED: Final = (HealthState.HALF_OPEN, HealthState.OUT)
"""States that end with a probe's outcome."""


class HealthRules(msgspec.Struct, frozen=True, kw_only=True):
    """When deployments are taken out and tested, see `settings.Routing`."""

    failures_to_open: int = 5
    open_s: float = 5.0
    out_probe_s: float = 30.0
    longest_rest_s: float = LONGEST_REST_S


class DeploymentHealth:
    """
    Health, load and speed of one deployment.

    Args:
        label: The deployment's label.
        rules: Thresholds and times.
    """

    __slots__ = (
        "_breaker",
        "_failed",
        "_longest_rest_s",
        "_out_probe_s",
        "_probe_at",
        "_refusals",
        "_row_ends_at",
        "blocked",
        "demanded",
        "in_flight",
        "label",
        "out",
        "rests_until",
        "ttft_s",
    )

    def __init__(self, label: str, rules: HealthRules) -> None:
        self.label = label
        self.blocked = False
        """False: the state is READY. True: `state` determines it."""
        self.rests_until = 0.0
        self.demanded = False
        """The current rest was demanded by the upstream's `retry-after`."""
        self.out: FailureClass | None = None
        self.in_flight = 0
        self.ttft_s = 0.0
        """Smoothed time to first token; 0: unknown."""
        self._breaker = CircuitBreaker(
            failures_to_open=rules.failures_to_open, cooldown_s=rules.open_s
        )
        self._out_probe_s = rules.out_probe_s
        self._longest_rest_s = rules.longest_rest_s
        self._probe_at = 0.0
        self._refusals = 0
        self._row_ends_at = 0.0
        self._failed = False  # since the last success; if not, `record_ok` returns early

    def state(self, now: float) -> HealthState:
        """Return the state; make the deployment ready if its rest has expired."""
        if not self.blocked:
            return HealthState.READY
        if self.out is not None:
            return HealthState.OUT
        if self._breaker.state is BreakerState.OPEN:
            return HealthState.OPEN
        if self._breaker.state is BreakerState.HALF_OPEN:
            return HealthState.HALF_OPEN
        if self.rests_until > now:
            return HealthState.RESTING
        self.blocked = False
        return HealthState.READY

    def record_ok(self, now: float, ttft_s: float | None) -> bool:
        """Note a success; return whether it made the deployment ready."""
        if ttft_s is not None:
            known = self.ttft_s
            self.ttft_s = known + (ttft_s - known) * _WEIGHT if known else ttft_s
        if not self._failed:
            return False
        self._refusals, self._failed = 0, self.blocked
        before = self.state(now) if self.blocked else HealthState.READY
        self._breaker.record_success()
        if not self.blocked:
            return False
        self.out = None
        return before is not HealthState.READY and self.state(now) is HealthState.READY

    def record_failure(self, failure: Failure, now: float) -> bool:
        """Note a failure; return whether it changed the state."""
        effect = RULES[failure.kind].effect
        self._failed = True
        if effect is Effect.BREAKER:
            changed = self._breaker.record_failure(now)
            self.blocked = self.blocked or changed
            return changed
        if effect is Effect.COOL_DOWN:
            # An upstream that asks for no rest, with 0 or a time in the past, gets a guessed one.
            demanded_s = failure.retry_after_s or 0.0
            until = now + (demanded_s or self._guessed_rest_s(now))
            self._row_ends_at = max(until, self.rests_until) + IN_A_ROW_S
            return self.rest(until, now, demanded=demanded_s > 0)
        if effect is Effect.OUT:
            # The first probe follows at once: a single refusal may concern one request only.
            return self.take_out(failure.kind, now, now)
        return False

    def _guessed_rest_s(self, now: float) -> float:
        """Count a refusal; return the rest that follows from it."""
        self._refusals = self._refusals + 1 if now <= self._row_ends_at else 1
        if self._refusals == 1:
            return 0.0
        return min(FIRST_REST_S * 2.0 ** min(self._refusals - 2, 16), LONGEST_GUESS_S)

    def rest(self, until: float, now: float, *, demanded: bool) -> bool:
        """Let the deployment rest until a time; return whether it was ready before."""
        until = min(until, now + self._longest_rest_s)
        if until <= max(now, self.rests_until):
            return False
        was_ready = self.state(now) is HealthState.READY
        self.rests_until, self.demanded = until, demanded
        self.blocked = self._failed = True
        return was_ready

    def take_out(self, reason: FailureClass, probe_at: float, now: float) -> bool:
        """Take the deployment out; return False if it was out already."""
        was_out = self.out is not None
        self._probe_at = now + self._out_probe_s if was_out else probe_at
        self.out = reason
        self.blocked = self._failed = True
        return not was_out

    def open(self, now: float) -> None:
        """Open the breaker: another worker found the deployment failing."""
        self._breaker.open(now)
        self.blocked = self._failed = True

    def restore(self, now: float) -> None:
        """
        Make the deployment ready: another worker or a probe found that it works.

        A rest that the upstream demanded continues: a single served call does not end it.
        """
        self._breaker.close()
        self.out, self._refusals = None, 0
        if not (self.demanded and self.rests_until > now):
            self.rests_until, self.blocked = 0.0, False

    def is_due(self, now: float) -> bool:
        """Return whether a probe should be sent."""
        if self.out is not None:
            return now >= self._probe_at
        return self._breaker.is_due(now)

    def try_probe(self, now: float) -> bool:
        """Return True, at most once until the probe's outcome, if a probe may be sent now."""
        if self.out is not None:
            if now < self._probe_at:
                return False
            self._probe_at = now + self._out_probe_s
            return True
        return self._breaker.try_probe(now)

    def probe_unfinished(self, now: float) -> None:
        """Record that a probe ended without an outcome: the next one follows after a cooldown."""
        if self._breaker.state is BreakerState.HALF_OPEN:
            self._breaker.open(now)


class HealthChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of state that one worker detected and publishes to all others."""

    label: str
    state: HealthState
    worker: str
    at_ms: int
    """Unix milliseconds."""
    failure: FailureClass | None = None
    until_ms: int | None = None
    """End of a rest, in Unix milliseconds."""
    demanded: bool = False


class HealthCounts(msgspec.Struct):
    """What happened to a deployment's attempts since the last flush."""

    attempts: int = 0
    ok: int = 0
    failures: dict[str, int] = {}
    ttft: dict[int, int] = {}
    """Step, see `ttft_step` -> number of streams."""


def ttft_step(seconds: float) -> int:
    """Return the step of a time to first token; each is 1.41 times as wide as the one before."""
    return bisect_left(_BOUNDS, seconds)


def ttft_bound_s(step: int) -> float:
    """Return the upper bound of a step in seconds; the last step has none."""
    return _BOUNDS[step] if step < len(_BOUNDS) else float("inf")
