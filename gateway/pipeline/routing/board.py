"""
The health of all deployments as this worker knows it.

Health changes by the worker's own attempts and by changes that other workers publish, so that one
worker's failures spare the others. No call waits for Redis; counts are flushed once per second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from time import monotonic

from gateway.core.catalogue import Catalogue
from gateway.core.routing.failures import HARMLESS, RULES, Effect, FailureClass
from gateway.core.routing.health import (
    OLDEST_S,
    PROBED,
    DeploymentHealth,
    HealthChange,
    HealthCounts,
    HealthRules,
    HealthState,
    ttft_step,
)
from gateway.core.routing.order import Failure
from gateway.ports import SharedHealth

logger = logging.getLogger(__name__)

_LOGGED_AS_WARNING = (HealthState.OPEN, HealthState.OUT)


class HealthBoard:
    """
    Keeps the health of deployments by their label, across catalogues.

    Args:
        rules: Thresholds and times.
        worker: Identifies this worker in what it publishes.
        shared: Shares changes and counts; None keeps them here.
        clock: Monotonic seconds.
        unix: Unix seconds.
    """

    def __init__(
        self,
        rules: HealthRules,
        worker: str,
        shared: SharedHealth | None = None,
        *,
        clock: Callable[[], float] = monotonic,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._worker = worker
        self._shared = shared
        self._clock = clock
        self._wall_clock = unix
        self._known: dict[str, DeploymentHealth] = {}
        self._counts: dict[str, HealthCounts] = {}
        self._shared_at_ms: dict[str, int] = {}  # of the last change that this worker published
        self.on_outcome: Callable[[str], None] = lambda _: None
        """Called with the label of a deployment that was not ready when an attempt there ends."""

    def of(self, label: str) -> DeploymentHealth:
        """Return a deployment's health; a new one is ready."""
        health = self._known.get(label)
        if health is None:
            health = self._known[label] = DeploymentHealth(label, self._rules)
        return health

    def is_ready(self, label: str) -> bool:
        """Return whether a deployment takes calls."""
        return self.of(label).state(self._clock()) is HealthState.READY

    def keep(self, catalogue: Catalogue) -> None:
        """Keep the deployments of a catalogue and remove all others."""
        labels = {each.label for model in catalogue.models for each in model.deployments}
        for label in labels:
            self.of(label)
        for label in self._known.keys() - labels:
            del self._known[label]
            self._shared_at_ms.pop(label, None)

    def blocked(self) -> list[DeploymentHealth]:
        """Return the deployments that are not ready."""
        now = self._clock()
        ready = HealthState.READY
        return [each for each in self._known.values() if each.state(now) is not ready]

    def states(self) -> dict[str, HealthState]:
        """Return the state of every deployment."""
        now = self._clock()
        return {label: health.state(now) for label, health in self._known.items()}

    def attempt_succeeded(self, health: DeploymentHealth, ttft_s: float | None) -> None:
        """Note a successful attempt."""
        counts = self._count(health.label)
        counts.ok += 1
        if ttft_s is not None:
            step = ttft_step(ttft_s)
            counts.ttft[step] = counts.ttft.get(step, 0) + 1
        if health.record_ok(self._clock(), ttft_s):
            self._publish(health)
            self.on_outcome(health.label)

    def attempt_failed(self, health: DeploymentHealth, failure: Failure) -> None:
        """Note a failed attempt."""
        counts = self._count(health.label)
        name = failure.kind.value
        counts.failures[name] = counts.failures.get(name, 0) + 1
        now = self._clock()
        effect = RULES[failure.kind].effect
        if failure.status and effect in HARMLESS and health.state(now) in PROBED:
            # An upstream that responds to a call works, whatever it thinks of the call.
            self.probe_succeeded(health, failure if effect is Effect.COOL_DOWN else None)
        elif health.record_failure(failure, now):
            self._publish(health, failure)
        if health.blocked:
            health.probe_unfinished(now)
        self.on_outcome(health.label)

    def attempt_unfinished(self, health: DeploymentHealth) -> None:
        """Note an attempt that ended for another reason than its deployment."""
        health.probe_unfinished(self._clock())
        if health.blocked:
            self.on_outcome(health.label)

    def attempt_rotated(self, health: DeploymentHealth, failure: Failure) -> None:
        """Note a failed attempt that affects one of several credentials, not the deployment."""
        counts = self._count(health.label)
        name = failure.kind.value
        counts.failures[name] = counts.failures.get(name, 0) + 1

    def probe_succeeded(self, health: DeploymentHealth, rest: Failure | None = None) -> None:
        """
        Note that a deployment works, which all workers learn.

        Args:
            health: The deployment's.
            rest: A refusal that may demand a rest: a rate limit or an overload.
        """
        now = self._clock()
        health.restore(now)
        if rest is not None:
            health.record_failure(rest, now)
        if health.state(now) is HealthState.RESTING:
            # Elsewhere it may be out or open, which a rest alone does not end.
            self._share(health, HealthState.READY)
        self._publish(health, rest)

    def probe_failed(self, health: DeploymentHealth, failure: Failure) -> None:
        """Note a failed probe."""
        now = self._clock()
        health.record_failure(failure, now)
        health.probe_unfinished(now)
        self._publish(health, failure)

    def flush(self) -> None:
        """Publish the counts since the last flush, and the states that are not ready."""
        shared = self._shared
        if shared is None:
            return
        minute = int(self._wall_clock()) // 60
        for health in self.blocked():
            self._counts.setdefault(health.label, HealthCounts())
        counts, self._counts = self._counts, {}
        states = self.states()
        for label, count in counts.items():
            shared.add(label, minute, count, states.get(label, HealthState.READY))

    def learn(self, changes: Iterable[HealthChange]) -> None:
        """Apply changes that other workers published, and correct own ones that are out of date."""
        for change in changes:
            health = self._known.get(change.label)
            if health is None:
                continue
            if change.worker == self._worker:
                self._correct(health, change)
            elif self._wall_clock() - change.at_ms / 1000 <= OLDEST_S:
                self._apply(health, change)

    def recall(self, changes: Iterable[HealthChange]) -> None:
        """Apply the states that Redis kept, and correct those that are older than what is known."""
        for change in changes:
            if self._shared_at_ms.get(change.label, 0) <= change.at_ms:
                self.learn([change])
            elif health := self._known.get(change.label):
                self._correct(health, change)

    def _correct(self, health: DeploymentHealth, change: HealthChange) -> None:
        """Share again that a deployment is ready, if Redis was away when it became so."""
        ready = HealthState.READY
        if change.state is not ready and health.state(self._clock()) is ready:
            self._share(health, ready)

    def _apply(self, health: DeploymentHealth, change: HealthChange) -> None:
        now = self._clock()
        match change.state:
            case HealthState.READY:
                health.restore(now)
            case HealthState.OPEN | HealthState.HALF_OPEN:
                health.open(now)
            case HealthState.RESTING if change.until_ms is not None:
                until = now + change.until_ms / 1000 - self._wall_clock()
                health.rest(until, now, demanded=change.demanded)
            case HealthState.OUT if change.failure is not None:
                health.take_out(change.failure, now, now)

    def _count(self, label: str) -> HealthCounts:
        counts = self._counts.get(label)
        if counts is None:
            counts = self._counts[label] = HealthCounts()
        counts.attempts += 1
        return counts

    def _publish(self, health: DeploymentHealth, failure: Failure | None = None) -> None:
        state = health.state(self._clock())
        kind = None if failure is None else failure.kind
        level = logging.WARNING if state in _LOGGED_AS_WARNING else logging.INFO
        fields = {
            "deployment": health.label,
            "state": state.value,
            "failure": None if kind is None else kind.value,
        }
        logger.log(level, "deployment_state_changed", extra=fields)
        self._share(health, state, kind)

    def _share(
        self, health: DeploymentHealth, state: HealthState, kind: FailureClass | None = None
    ) -> None:
        if self._shared is None:
            return
        now, unix = self._clock(), self._wall_clock()
        self._shared_at_ms[health.label] = int(unix * 1000)
        rests = state is HealthState.RESTING
        self._shared.publish(
            HealthChange(
                health.label,
                state,
                self._worker,
                int(unix * 1000),
                kind,
                int((unix + health.rests_until - now) * 1000) if rests else None,
                health.demanded and rests,
            )
        )
