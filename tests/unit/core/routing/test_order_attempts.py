"""What follows a failed attempt: another key, another deployment, a retry, or the error."""

from __future__ import annotations

import pytest

from gateway.core.model import Wire
from gateway.core.routing.failures import RULES, Effect, FailureClass, class_of
from gateway.core.routing.order import AttemptOrder, Failure
from gateway.core.routing.plan import Candidate
from gateway.core.routing.retries import RetryBudget, RetryLimits
from gateway.errors import SURFACES, ErrorKind, ErrorSource
from tests.support.pipeline_fakes import a_deployment, a_provider

A, B, C = (Candidate(a_deployment(a_provider(name)), Wire.OPENAI) for name in "abc")
LIMITS = RetryLimits(max_attempts=6, retries=1, within_s=60, first_wait_s=0.1, max_wait_s=5)
DOWN = Failure(FailureClass.UPSTREAM, 500)


class Attempts:
    """Plays failures through an order and keeps what it decides."""

    def __init__(
        self,
        *candidates: Candidate,
        budget: RetryBudget | None = None,
        max_attempts: int | None = None,
        elsewhere: int = 0,
    ) -> None:
        self.order = AttemptOrder(candidates, LIMITS, 0.0, max_attempts, elsewhere)
        self.budget = budget or RetryBudget(20, 10)
        self.now = 0.0
        self.current: Candidate | None = self.order.first
        self.waits: list[float] = []

    def fail(self, failure: Failure, *, other: bool = False) -> Candidate | None:
        """Let the current attempt fail; return the next candidate."""
        assert self.current is not None
        following = self.order.after(
            self.current, failure, self.now, other_credential=other, budget=self.budget, draw=0.5
        )
        self.current = None if following is None else following.candidate
        if following is not None:
            self.waits.append(following.wait_s)
        return self.current


def test_each_deployment_is_tried_before_one_is_retried() -> None:
    """A, B, then both again, with growing delays only before retries."""
    attempts = Attempts(A, B)

    assert [attempts.fail(DOWN) for _ in range(4)] == [B, A, B, None]
    assert attempts.waits == pytest.approx([0.0, 0.05, 0.1])


@pytest.mark.parametrize("kind", list(FailureClass))
def test_class_decides_about_fallback_and_retry(kind: FailureClass) -> None:
    """A fallback where another deployment may succeed, a retry where the same one may."""
    rule = RULES[kind]

    assert Attempts(A, B).fail(Failure(kind)) == (B if rule.fallback else None)
    assert Attempts(A).fail(Failure(kind)) == (A if rule.retry else None)


def test_timeouts_are_not_repeated_on_the_same_deployment() -> None:
    """After A timed out and B failed, B alone is retried."""
    attempts = Attempts(A, B)

    assert attempts.fail(Failure(FailureClass.TIMEOUT)) == B
    assert attempts.fail(DOWN) == B
    assert attempts.fail(DOWN) is None


def test_rejected_credential_is_replaced_first() -> None:
    """Another key of the provider comes before the next deployment, without delay."""
    attempts = Attempts(A, B)
    refused = Failure(FailureClass.CREDENTIAL, 401)

    assert attempts.fail(refused, other=True) == A
    assert attempts.fail(refused, other=False) == B
    assert attempts.waits == [0.0, 0.0]


def test_other_credential_does_not_help_against_a_failing_upstream() -> None:
    """Keys are rotated for what concerns the account only."""
    assert Attempts(A, B).fail(DOWN, other=True) == B


def test_retry_after_is_honoured_or_returned() -> None:
    """A short `retry-after` delays the retry; one beyond the limit ends the call."""
    short, long = Attempts(A), Attempts(A)

    assert short.fail(Failure(FailureClass.RATE_LIMIT, 429, 2.0)) == A
    assert short.waits == pytest.approx([2.1])
    assert long.fail(Failure(FailureClass.RATE_LIMIT, 429, 30.0)) is None


def test_time_spent_elsewhere_counts_towards_retry_after() -> None:
    """A asked for 2 s; B took 1.5 s to fail: 0.6 s remain."""
    attempts = Attempts(A, B)
    attempts.fail(Failure(FailureClass.RATE_LIMIT, 429, 2.0))
    attempts.now = 1.5

    assert attempts.fail(Failure(FailureClass.UNSUPPORTED)) == A
    assert attempts.waits[-1] == pytest.approx(0.6)


def test_attempts_end_with_their_time() -> None:
    """After `within_s` nothing is tried, not even a fresh deployment."""
    attempts = Attempts(A, B)
    attempts.now = 60.1

    assert attempts.fail(DOWN) is None


def test_attempts_end_with_their_number() -> None:
    """`max_attempts` counts all deployments and keys."""
    limits = RetryLimits(max_attempts=2, retries=9)
    order, budget = AttemptOrder((A, B), limits, 0.0), RetryBudget(20, 10)

    first = order.after(A, DOWN, 0.0, other_credential=False, budget=budget, draw=0.0)
    second = order.after(B, DOWN, 0.0, other_credential=False, budget=budget, draw=0.0)

    assert (first is not None, second) == (True, None)


def test_other_models_take_attempts_and_leave_one() -> None:
    """Retries end where the others' attempts begin."""
    attempts = Attempts(A, B, elsewhere=4)
    assert [attempts.fail(DOWN) for _ in range(2)] == [B, None]
    assert Attempts(A, B, elsewhere=9).fail(DOWN) is None


def test_clients_own_bound_replaces_the_retries() -> None:
    """`max_retries = 3` of the native endpoint means four attempts at one deployment."""
    attempts = Attempts(A, max_attempts=4)

    assert [attempts.fail(DOWN) for _ in range(4)] == [A, A, A, None]


def test_clients_own_bound_never_exceeds_the_operators() -> None:
    """Six attempts of a call are the most, and what other models have made counts."""
    attempts = Attempts(A, max_attempts=9)
    assert [attempts.fail(DOWN) for _ in range(6)] == [A, A, A, A, A, None]

    attempts = Attempts(A, B, max_attempts=4, elsewhere=2)
    assert [attempts.fail(DOWN) for _ in range(2)] == [B, None]


def test_last_resort_is_tried_once() -> None:
    """Whatever the client's bound and the retries of the settings are."""
    order = AttemptOrder((A,), LIMITS, 0.0, 4, once=True)
    budget = RetryBudget(20, 10)

    assert order.after(A, DOWN, 0.0, other_credential=False, budget=budget, draw=0.0) is None


def test_exhausted_budget_permits_fallbacks_but_no_retry() -> None:
    """An outage of everything costs one attempt for each deployment."""
    budget = RetryBudget(0, 1)
    assert budget.try_retry(0.0)
    attempts = Attempts(A, B, budget=budget)

    assert [attempts.fail(DOWN), attempts.fail(DOWN)] == [B, None]


def test_every_class_has_a_rule_and_only_operators_trouble_is_out() -> None:
    """Overload and rate limits never touch the breaker; errors of clients touch nothing."""
    assert set(RULES) == set(FailureClass)
    effects = {kind: rule.effect for kind, rule in RULES.items()}
    assert {kind for kind, effect in effects.items() if effect is Effect.OUT} == {
        FailureClass.CREDENTIAL,
        FailureClass.QUOTA,
    }
    assert effects[FailureClass.RATE_LIMIT] is effects[FailureClass.OVERLOAD] is Effect.COOL_DOWN
    assert effects[FailureClass.CLIENT] is effects[FailureClass.LOCAL] is Effect.NONE


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_errors_of_clients_and_of_the_gateway_go_to_no_other_deployment(kind: ErrorKind) -> None:
    """Only what an upstream caused, or cannot do, leads to another attempt."""
    may_fall_back = RULES[class_of(kind)].fallback
    other_causes = (ErrorKind.UNSUPPORTED, ErrorKind.OVERLOADED)

    assert may_fall_back == (SURFACES[kind].source is ErrorSource.UPSTREAM or kind in other_causes)


def test_hedge_is_the_next_ready_candidate_and_not_tried_again() -> None:
    """B rests, so C is asked beside A; after A has failed B is left."""
    attempts = Attempts(A, B, C)
    order = attempts.order

    assert order.hedge(lambda each: each is not B) is C
    order.note_failure(C, Failure(FailureClass.CLIENT), 0.0)
    assert attempts.fail(Failure(FailureClass.UNSUPPORTED)) == B


def test_call_is_hedged_once_and_within_its_attempts() -> None:
    """A hedge is an attempt: with one allowed there is none, and a second one is not made."""
    order = AttemptOrder((A, B, C), LIMITS, 0.0)

    assert AttemptOrder((A, B), LIMITS, 0.0, 1).hedge(lambda _: True) is None
    assert AttemptOrder((A,), LIMITS, 0.0).hedge(lambda _: True) is None
    assert order.hedge(lambda _: False) is None
    assert order.hedge(lambda _: True) is B
    assert order.hedge(lambda _: True) is None


def test_failure_beside_a_running_attempt_counts_as_an_attempt() -> None:
    """Both of a race, and one more, are three."""
    order, budget = AttemptOrder((A, B, C), RetryLimits(max_attempts=3), 0.0), RetryBudget(20, 10)
    assert order.hedge(lambda _: True) is B
    order.note_failure(B, DOWN, 0.0)
    third = order.after(A, DOWN, 0.0, other_credential=False, budget=budget, draw=0.0)
    assert third is not None
    last = order.after(C, DOWN, 0.0, other_credential=False, budget=budget, draw=0.0)

    assert (third.candidate, last) == (C, None)
