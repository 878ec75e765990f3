"""
The order of one call's attempts: each candidate once, then retries of those that may recover.

Pure: the time and the jitter are passed in, and the retry budget is consulted only for retries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.core.routing.failures import RULES, FailureClass
from gateway.core.routing.plan import Candidate
from gateway.core.routing.retries import RetryBudget, RetryLimits, wait_s


class Failure(NamedTuple):
    """How an attempt failed."""

    kind: FailureClass
    status: int = 0
    """The upstream's HTTP status; 0: there was none."""
    retry_after_s: float | None = None


class NextAttempt(NamedTuple):
    """What is tried next, after a delay."""

    candidate: Candidate
    wait_s: float = 0.0


class _Again(NamedTuple):
    candidate: Candidate
    failed_at: float
    retry_after_s: float | None


class AttemptOrder:
    """
    Decides what follows a failed attempt.

    Args:
        candidates: The plan, best first; not empty.
        limits: Bounds of attempts, retries and time.
        started: When the first attempt begins.
        max_attempts: The client's own bound of the call. It may only lower that of `limits`, and
            replaces the retries of each deployment.
        elsewhere: Attempts made or reserved for the call's other models. At least one attempt
            remains for these candidates.
        once: Make a single attempt: the plan is a last resort.
    """

    __slots__ = (
        "_again",
        "_candidates",
        "_each",
        "_failed",
        "_hedged",
        "_limits",
        "_made",
        "_most",
        "_next",
        "_retries",
        "_started",
    )

    def __init__(
        self,
        candidates: tuple[Candidate, ...],
        limits: RetryLimits,
        started: float,
        max_attempts: int | None = None,
        elsewhere: int = 0,
        *,
        once: bool = False,
    ) -> None:
        self._candidates = candidates
        self._limits = limits
        self._started = started
        left = limits.bound(max_attempts) - elsewhere
        self._most = 1 if once else max(left, 1)
        self._each = limits.retries if max_attempts is None else max_attempts - 1
        self._failed: dict[str, int] = {}
        self._made = 0
        self._hedged = False
        self._next = 1
        self._retries = 0
        self._again: list[_Again] = []

    @property
    def first(self) -> Candidate:
        """The candidate to begin with."""
        return self._candidates[0]

    @property
    def may_hedge(self) -> bool:
        """Whether another candidate may be tried beside the current one, once."""
        untried = self._next < len(self._candidates)
        return untried and not self._hedged and self._made + 2 <= self._most

    def has_ready(self, is_ready: Callable[[Candidate], bool]) -> bool:
        """Return whether `hedge` would name a candidate."""
        return self.may_hedge and any(map(is_ready, self._candidates[self._next :]))

    def hedge(self, is_ready: Callable[[Candidate], bool]) -> Candidate | None:
        """Return the best untried candidate that is ready, to be tried beside the current one."""
        if not self.may_hedge:
            return None
        rest = self._candidates[self._next :]
        chosen = next(filter(is_ready, rest), None)
        if chosen is None:
            return None
        others = (each for each in rest if each is not chosen)
        self._candidates = (*self._candidates[: self._next], chosen, *others)
        self._next += 1
        self._hedged = True
        return chosen

    def note_failure(self, candidate: Candidate, failure: Failure, now: float) -> None:
        """Record the failure of one of two concurrent attempts; the other one continues."""
        self._made += 1
        self._note(candidate, failure, now)

    def after(
        self,
        candidate: Candidate,
        failure: Failure,
        now: float,
        *,
        other_credential: bool,
        budget: RetryBudget,
        draw: float,
    ) -> NextAttempt | None:
        """
        Return what is tried after a failure; None: the failure goes to the client.

        Args:
            candidate: The candidate that failed.
            failure: How it failed.
            now: The time of the failure.
            other_credential: Another credential of the same provider is ready.
            budget: Consulted before each retry.
            draw: Uniform in [0, 1), for the jitter.
        """
        self._made += 1
        rule = RULES[failure.kind]
        late = now - self._started > self._limits.within_s
        if not rule.fallback or late or self._made >= self._most:
            return None
        if rule.rotate and other_credential:
            return NextAttempt(candidate)
        self._note(candidate, failure, now)
        if self._next < len(self._candidates):
            self._next += 1
            return NextAttempt(self._candidates[self._next - 1])
        return self._retry(now, budget, draw)

    def _note(self, candidate: Candidate, failure: Failure, now: float) -> None:
        label = candidate.deployment.label
        failures = self._failed[label] = self._failed.get(label, 0) + 1
        if RULES[failure.kind].retry and failures <= self._each:
            self._again.append(_Again(candidate, now, failure.retry_after_s))

    def _retry(self, now: float, budget: RetryBudget, draw: float) -> NextAttempt | None:
        while self._again:
            candidate, failed_at, retry_after_s = self._again.pop(0)
            wait = wait_s(self._limits, self._retries, draw, retry_after_s)
            if retry_after_s is not None:
                wait = max(0.0, wait - (now - failed_at))
            if wait > self._limits.max_wait_s or now + wait - self._started > self._limits.within_s:
                continue
            if not budget.try_retry(now):
                return None
            self._retries += 1
            return NextAttempt(candidate, wait)
        return None
