"""What workers learn from each other about deployments."""

from __future__ import annotations

import msgspec

from gateway.core.catalogue import Catalogue
from gateway.core.routing.failures import FailureClass
from gateway.core.routing.health import HealthChange, HealthCounts, HealthRules, HealthState
from gateway.core.routing.order import Failure
from gateway.pipeline.routing.board import HealthBoard
from tests.support.pipeline_fakes import a_deployment, a_model, a_provider

RULES = HealthRules(failures_to_open=2, open_s=5.0, out_probe_s=30.0)
DOWN = Failure(FailureClass.NETWORK)


class Times:
    """Clocks of two machines that started at different times."""

    def __init__(self) -> None:
        self.now = 0.0

    def unix(self) -> float:
        return 1_800_000_000.0 + self.now


class FakeSharedHealth:
    """Hands changes to all boards, and keeps counts."""

    def __init__(self) -> None:
        self.boards: list[HealthBoard] = []
        self.changes: list[HealthChange] = []
        self.added: list[tuple[str, int, HealthCounts, HealthState]] = []

    def publish(self, change: HealthChange) -> None:
        self.changes.append(change)
        for board in self.boards:
            board.learn([change])

    def add(self, label: str, minute: int, counts: HealthCounts, state: HealthState) -> None:
        self.added.append((label, minute, counts, state))

    async def claim_probe(self, label: str, kept_s: float | None = None) -> str | None:
        return label

    def release_probe(self, label: str, token: str) -> None: ...


def a_catalogue(*names: str) -> Catalogue:
    deployments = [a_deployment(a_provider(name)) for name in names]
    model = a_model(*deployments)
    return Catalogue("", (model,), tuple(each.provider for each in deployments), {"m": model})


def two_workers(times: Times) -> tuple[HealthBoard, HealthBoard, FakeSharedHealth]:
    shared = FakeSharedHealth()
    for name, offset in (("w1", 50.0), ("w2", 9_000.0)):
        board = HealthBoard(
            RULES,
            name,
            shared,
            clock=lambda offset=offset: times.now + offset,  # type: ignore[misc]
            unix=times.unix,
        )
        board.keep(a_catalogue("a", "b"))
        shared.boards.append(board)
    first, second = shared.boards
    return first, second, shared


def states(board: HealthBoard) -> dict[str, str]:
    return {label: state.value for label, state in board.states().items()}


def test_opening_of_one_worker_spares_the_others() -> None:
    """Two failures at one worker: both workers avoid the deployment, and no other one."""
    times = Times()
    first, second, shared = two_workers(times)

    for _ in range(2):
        first.attempt_failed(first.of("a/a-m"), DOWN)

    assert states(first) == states(second) == {"a/a-m": "open", "b/b-m": "ready"}
    assert len(shared.changes) == 1


def test_successful_probe_of_one_worker_restores_all() -> None:
    """The worker that opened the breaker learns that another one's probe succeeded."""
    times = Times()
    first, second, _ = two_workers(times)
    for _ in range(2):
        first.attempt_failed(first.of("a/a-m"), DOWN)

    second.probe_succeeded(second.of("a/a-m"))

    assert states(first) == states(second) == {"a/a-m": "ready", "b/b-m": "ready"}


def test_rest_ends_at_the_same_time_everywhere() -> None:
    """The end of a rest travels as wall time: monotonic clocks differ between machines."""
    times = Times()
    first, second, _ = two_workers(times)
    first.attempt_failed(first.of("a/a-m"), Failure(FailureClass.RATE_LIMIT, 429, 20.0))

    times.now = 19.5
    assert states(second)["a/a-m"] == "resting"
    assert second.of("a/a-m").demanded
    times.now = 20.1
    assert states(first)["a/a-m"] == states(second)["a/a-m"] == "ready"


def test_probe_that_finds_a_rest_demanded_is_learned_by_all() -> None:
    """What was out everywhere rests everywhere, until the same time; then nothing holds it."""
    times = Times()
    first, second, _ = two_workers(times)
    first.attempt_failed(first.of("a/a-m"), Failure(FailureClass.CREDENTIAL, 401))

    second.probe_succeeded(second.of("a/a-m"), Failure(FailureClass.RATE_LIMIT, 429, 20.0))

    assert states(first) == states(second) == {"a/a-m": "resting", "b/b-m": "ready"}
    times.now = 20.1
    assert states(first) == states(second) == {"a/a-m": "ready", "b/b-m": "ready"}


def test_refused_credential_is_published_with_its_reason() -> None:
    """The other worker knows that it is the operator's credit."""
    times = Times()
    first, second, _ = two_workers(times)

    first.attempt_failed(first.of("b/b-m"), Failure(FailureClass.QUOTA, 402))

    assert second.of("b/b-m").out is FailureClass.QUOTA


def test_old_states_and_unknown_deployments_are_ignored() -> None:
    """A state left behind by a pod that is gone does not block a new one for ever."""
    times = Times()
    board, _, _ = two_workers(times)
    old = HealthChange("a/a-m", HealthState.OPEN, "gone", int((times.unix() - 3601) * 1000))
    unknown = HealthChange("x/y", HealthState.OPEN, "w9", int(times.unix() * 1000))

    board.learn([old, unknown])

    assert states(board) == {"a/a-m": "ready", "b/b-m": "ready"}


def test_own_state_that_redis_kept_through_an_outage_is_corrected() -> None:
    """Redis was away when the deployment became ready; another worker's state is applied."""
    times = Times()
    first, second, shared = two_workers(times)
    for _ in range(2):
        first.attempt_failed(first.of("a/up-m"), DOWN)
    opened = shared.changes[-1]
    shared.boards.clear()  # Redis is away
    first.probe_succeeded(first.of("a/up-m"))
    shared.changes.clear()

    shared.boards[:] = [first, second]
    first.learn([opened])

    assert [(each.label, each.state) for each in shared.changes] == [("a/up-m", HealthState.READY)]
    assert second.is_ready("a/up-m")
    first.learn(shared.changes)
    assert len(shared.changes) == 1, "its own message, when it comes back, changes nothing"


def test_state_that_is_older_than_what_a_worker_found_out_is_corrected() -> None:
    """Another worker had published it, and Redis kept it through an outage; a newer one holds."""
    times = Times()
    first, second, shared = two_workers(times)
    for _ in range(2):
        second.attempt_failed(second.of("a/up-m"), DOWN)
    opened = shared.changes[-1]
    shared.boards.clear()  # Redis is away
    times.now += 1
    first.probe_succeeded(first.of("a/up-m"))
    shared.changes.clear()

    shared.boards[:] = [first, second]
    first.recall([opened])

    assert [(each.label, each.state) for each in shared.changes] == [("a/up-m", HealthState.READY)]
    assert first.is_ready("a/up-m")
    assert second.is_ready("a/up-m")
    times.now += 1
    first.recall([msgspec.structs.replace(opened, at_ms=int(times.unix() * 1000))])
    assert not first.is_ready("a/up-m")


def test_flush_hands_over_counts_once() -> None:
    """Attempts, results and the steps of the time to first token, under the Unix minute."""
    times = Times()
    board, _, shared = two_workers(times)
    health = board.of("a/a-m")
    board.attempt_succeeded(health, 0.02)
    board.attempt_succeeded(health, None)
    board.attempt_failed(health, DOWN)

    board.flush()
    board.flush()

    counts = HealthCounts(3, 2, {"network": 1}, {1: 1})
    assert shared.added == [("a/a-m", 30_000_000, counts, HealthState.READY)]


def test_flush_repeats_the_state_of_what_is_not_ready() -> None:
    """A minute without attempts still shows that the deployment was out."""
    times = Times()
    board, _, shared = two_workers(times)
    board.attempt_failed(board.of("a/a-m"), Failure(FailureClass.CREDENTIAL, 401))
    board.flush()
    shared.added.clear()
    times.now = 60.0

    board.flush()

    assert shared.added == [("a/a-m", 30_000_001, HealthCounts(), HealthState.OUT)]


def test_reload_keeps_the_health_of_deployments_that_stay() -> None:
    """A new catalogue forgets only what is no longer in it."""
    times = Times()
    board, _, _ = two_workers(times)
    for _ in range(2):
        board.attempt_failed(board.of("a/a-m"), DOWN)

    board.keep(a_catalogue("a", "c"))

    assert states(board) == {"a/a-m": "open", "c/c-m": "ready"}
