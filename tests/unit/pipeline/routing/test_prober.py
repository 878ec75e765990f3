"""Probes go only to what is out, one at a time, and decide whether it returns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from email.utils import formatdate
from time import monotonic, time

import msgspec
import pytest

from gateway.core.catalogue import Catalogue
from gateway.core.model import Wire
from gateway.core.routing.credentials import CredentialRotation
from gateway.core.routing.failures import FailureClass
from gateway.core.routing.health import HealthChange, HealthCounts, HealthRules, HealthState
from gateway.core.routing.order import Failure
from gateway.core.routing.probes import Probe, ProbeOutcome
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.routing.asked_probes import AskedProbes
from gateway.pipeline.routing.board import HealthBoard
from gateway.pipeline.routing.prober import Prober
from tests.support.pipeline_fakes import (
    FakeUpstreamResponse,
    ScriptedTransport,
    Step,
    a_deployment,
    a_model,
    a_provider,
    json_head,
)
from tests.support.waiting import wait_until

LABEL = "up/up-m"


class FakeSharedHealth:
    """Permits probes, or not, and notes what happens in which order."""

    def __init__(self, *, permits: bool = True) -> None:
        self.permits = permits
        self.asked = 0
        self.events: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        """Called while a worker waits for its permission."""

    def publish(self, change: HealthChange) -> None:
        rests = change.state is HealthState.RESTING and change.failure is not None
        reason = f" {change.failure.value}" if rests and change.failure else ""
        self.events.append(change.state.value + reason)

    def add(self, label: str, minute: int, counts: HealthCounts, state: HealthState) -> None: ...

    async def claim_probe(self, label: str, kept_s: float | None = None) -> str | None:
        self.asked += label == LABEL
        self.meanwhile()
        return f"token {self.asked}" if self.permits else None

    def release_probe(self, label: str, token: str) -> None:
        self.events.append(f"{label} {token}")


class Scene:
    """A deployment whose credential was refused, and its prober."""

    def __init__(
        self,
        *steps: Step,
        wire: Wire = Wire.OPENAI,
        permits: bool = True,
        credentials: int = 2,
    ) -> None:
        provider = a_provider(wires=[wire])
        route = msgspec.structs.replace(
            provider.wires[wire],
            headers=((b"authorization", b"one"),),
            alternatives=(((b"authorization", b"two"),),)[: credentials - 1],
        )
        deployment = a_deployment(msgspec.structs.replace(provider, wires={wire: route}))
        catalogue = Catalogue("", (a_model(deployment),), (deployment.provider,), {})
        self.shared = FakeSharedHealth(permits=permits)
        self.board = HealthBoard(HealthRules(), "w", self.shared)
        self.board.keep(catalogue)
        self.transport = ScriptedTransport(*steps)
        self.prober = Prober(self.board, self.transport, self.shared)
        self.rotation = CredentialRotation(2)
        several = {"up": self.rotation} if credentials > 1 else {}
        self.prober.serve(catalogue, {LABEL: "max_completion_tokens"}, several)

    def take_out(self) -> None:
        refused = Failure(FailureClass.CREDENTIAL, 401)
        self.board.attempt_failed(self.board.of(LABEL), refused)

    async def probe(self) -> HealthState:
        """Probe what is due, and return the state afterwards."""
        self.prober.probe_due(monotonic())
        await wait_until(lambda: not self.prober.running)
        return self.board.states()[LABEL]


def response(status: int, *, retry_after_s: int | None = None) -> FakeUpstreamResponse:
    head = json_head(b"{}")
    if retry_after_s is not None:
        head = [*head, (b"retry-after", str(retry_after_s).encode())]
    return FakeUpstreamResponse(status, head, b"{}")


async def test_ready_deployment_is_never_probed() -> None:
    """A probe costs money and a slot."""
    scene = Scene()

    assert await scene.probe() is HealthState.READY
    assert scene.transport.requests == []


@pytest.mark.parametrize("status", [200, 400, 404, 429, 503])
async def test_answer_brings_a_deployment_back(status: int) -> None:
    """It accepted the credential, whatever else it says."""
    scene = Scene(response(status))
    scene.take_out()

    assert await scene.probe() is HealthState.READY


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit"), (503, "overload")])
async def test_answer_that_demands_a_rest_gets_it(status: int, kind: str) -> None:
    """The deployment works, and is used again when its upstream said."""
    scene = Scene(response(status, retry_after_s=7), credentials=1)
    scene.take_out()
    health = scene.board.of(LABEL)

    assert await scene.probe() is HealthState.RESTING
    assert health.demanded
    assert health.rests_until - monotonic() == pytest.approx(7, abs=1)
    assert scene.shared.events[:3] == ["out", "ready", f"resting {kind}"]


async def test_rest_until_a_date_is_measured_by_the_workers_clock() -> None:
    """The response has no `date` of its own."""
    until = formatdate(time() + 30, usegmt=True).encode()
    refusal = FakeUpstreamResponse(503, [*json_head(b"{}"), (b"retry-after", until)], b"{}")
    scene = Scene(refusal, credentials=1)
    scene.take_out()

    assert await scene.probe() is HealthState.RESTING
    assert scene.board.of(LABEL).rests_until - monotonic() == pytest.approx(30, abs=2)


@pytest.mark.parametrize(("status", "seconds"), [(200, 60), (429, 60), (503, 90)])
async def test_probe_does_not_shorten_a_demanded_rest(status: int, seconds: float) -> None:
    """Of the rest demanded before and the one that the response demands, the later end holds."""
    demand = 90 if status == 503 else 5
    scene = Scene(response(status, retry_after_s=demand), credentials=1)
    health = scene.board.of(LABEL)
    health.rest(monotonic() + 60, monotonic(), demanded=True)
    scene.take_out()

    assert await scene.probe() is HealthState.RESTING
    assert health.rests_until - monotonic() == pytest.approx(seconds, abs=1)


async def test_rate_limit_of_one_of_several_credentials_is_no_rest_of_the_deployment() -> None:
    """The next one is used meanwhile."""
    scene = Scene(response(429, retry_after_s=60))
    scene.take_out()

    assert await scene.probe() is HealthState.READY
    assert scene.rotation.pick(monotonic() + 50) == 1


@pytest.mark.parametrize("status", [401, 402, 403, 500])
async def test_refusal_keeps_it_out(status: int) -> None:
    """The next probe waits for its time."""
    scene = Scene(response(status))
    scene.take_out()

    assert await scene.probe() is HealthState.OUT
    await scene.probe()
    assert len(scene.transport.requests) == 1


async def test_unreachable_upstream_keeps_its_breaker_open() -> None:
    """A failed probe of a half-open breaker opens it again."""
    scene = Scene(GatewayError(ErrorKind.UPSTREAM_CONNECT, "no"))
    scene.board.of(LABEL).open(-100.0)

    assert await scene.probe() is HealthState.OPEN
    await scene.probe()
    assert len(scene.transport.requests) == 1


@pytest.mark.parametrize(
    ("wire", "path", "limit"),
    [
        (Wire.OPENAI, "/v1/chat/completions", "max_completion_tokens"),
        (Wire.ANTHROPIC, "/v1/messages", "max_tokens"),
    ],
)
async def test_probe_is_the_smallest_call(wire: Wire, path: str, limit: str) -> None:
    """One token, with the deployment's model, and no word of a client."""
    scene = Scene(response(200), wire=wire)
    scene.take_out()
    await scene.probe()

    (request,) = scene.transport.requests
    assert (request.method, request.path) == ("POST", path)
    assert json.loads(request.body) == {
        "model": "up-m",
        "messages": [{"role": "user", "content": "ping"}],
        limit: 1,
    }


async def test_another_worker_probes() -> None:
    """Without its permission nothing is sent, and the verdict comes from elsewhere."""
    scene = Scene(permits=False)
    scene.take_out()

    assert await scene.probe() is HealthState.OUT
    assert (scene.shared.asked, scene.transport.requests) == (1, [])
    assert scene.shared.events == ["out"]


@pytest.mark.parametrize("step", [response(200), response(401), RuntimeError("a defect")])
async def test_claim_is_released_after_the_outcome_was_published(step: Step) -> None:
    """Whatever the outcome, the next probe need not wait until the claim expires."""
    scene = Scene(step)
    scene.take_out()

    state = await scene.probe()

    outcome = [] if isinstance(step, Exception) else [state.value]
    assert scene.shared.events == ["out", *outcome, f"{LABEL} token 1"]


@pytest.mark.parametrize("outcome", [HealthState.READY, HealthState.OPEN])
async def test_probe_that_another_worker_has_just_finished_is_not_repeated(
    outcome: HealthState,
) -> None:
    """Its outcome arrived while this worker waited for the claim."""
    scene = Scene()
    scene.board.of(LABEL).open(-100.0)
    change = HealthChange(LABEL, outcome, "other", int(time() * 1000))
    scene.shared.meanwhile = lambda: scene.board.learn([change])

    assert await scene.probe() is outcome
    assert scene.transport.requests == []
    assert scene.shared.events == [f"{LABEL} token 1"]


async def test_next_probe_is_sent_with_another_credential() -> None:
    """One of several keys may work again although the first one was revoked."""
    scene = Scene(response(401), response(200))
    scene.take_out()
    assert await scene.probe() is HealthState.OUT
    scene.board.of(LABEL).take_out(FailureClass.CREDENTIAL, 0.0, -100.0)

    assert await scene.probe() is HealthState.READY
    sent = [dict(request.headers)[b"authorization"] for request in scene.transport.requests]
    assert sent == [b"one", b"two"]
    assert scene.rotation.pick(monotonic()) == 1


async def test_probe_that_fails_inside_the_gateway_is_repeated() -> None:
    """Whatever the defect, a half-open breaker does not wait for its verdict for ever."""
    scene = Scene(RuntimeError("a defect"))
    health = scene.board.of(LABEL)
    health.open(monotonic() - 60)

    scene.prober.probe_due(monotonic())
    await wait_until(lambda: not scene.prober.running)

    assert health.state(monotonic()) is HealthState.OPEN
    assert health.try_probe(monotonic() + 60)


async def test_end_of_the_prober_waits_for_its_probes() -> None:
    """No probe is left running when the worker stops."""
    closed: list[bool] = []

    async def never() -> FakeUpstreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            closed.append(True)
        raise AssertionError

    scene = Scene(never)
    scene.take_out()
    task = asyncio.create_task(scene.prober.run())
    await wait_until(lambda: scene.prober.running and scene.transport.requests)

    task.cancel()
    await asyncio.wait([task])

    assert closed


class FakeSharedProbes:
    """The first worker that claims a probe sends it."""

    def __init__(self) -> None:
        self.claimed = False
        self.finished: list[Probe] = []

    async def claim(self, probe_id: str) -> bool:
        claimed, self.claimed = self.claimed, True
        return not claimed

    async def finish(self, probe: Probe) -> None:
        self.finished.append(probe)


def refused(message: bytes) -> FakeUpstreamResponse:
    body = b'{"error":{"message":"%b"}}' % message
    return FakeUpstreamResponse(401, json_head(body), body)


ASKED = Probe(probe="x", deployment=LABEL)


async def test_asked_probe_tests_every_credential_and_one_worker_sends_it() -> None:
    """The upstream's words are passed on without the credential; one that works is enough."""
    scene, shared = Scene(refused(b"bad key: sk-first-1234"), response(200)), FakeSharedProbes()
    provider = scene.prober._deployments[LABEL].provider
    route = msgspec.structs.replace(
        provider.wires[Wire.OPENAI], headers=((b"authorization", b"Bearer sk-first-1234"),)
    )
    provider.wires[Wire.OPENAI] = route
    scene.take_out()
    workers = [AskedProbes(scene.prober, shared) for _ in range(2)]
    for each in workers:
        each.received(ASKED)
    await wait_until(lambda: shared.finished)
    (done,) = shared.finished
    workers[0].received(done)

    first, second = done.outcomes or ()
    assert (first.credential, first.accepted, first.status) == (1, False, 401)
    assert first.failure is FailureClass.CREDENTIAL
    assert first.message == "bad key: \N{HORIZONTAL ELLIPSIS}"
    assert (second.credential, second.accepted, second.failure) == (2, True, None)
    assert scene.board.states()[LABEL] is HealthState.READY
    assert scene.rotation.pick(monotonic()) == 1
    for each in workers:
        await each.aclose()


async def test_asked_probe_takes_out_what_refuses_every_credential() -> None:
    """Also a deployment that took calls until then."""
    scene = Scene(refused(b"no"), refused(b"no"))

    outcomes = await scene.prober.test(LABEL)

    assert [each.accepted for each in outcomes] == [False, False]
    assert scene.board.states()[LABEL] is HealthState.OUT


@pytest.mark.parametrize("was_ready", [True, False])
async def test_asked_probe_lets_a_deployment_rest_as_long_as_all_credentials_demand(
    *, was_ready: bool
) -> None:
    """It is used again as soon as the first of them is."""
    scene = Scene(response(429, retry_after_s=60), response(429, retry_after_s=30))
    if not was_ready:
        scene.take_out()

    outcomes = await scene.prober.test(LABEL)
    scene.prober.learn(msgspec.structs.replace(ASKED, outcomes=outcomes))

    assert [each.retry_after_s for each in outcomes] == [60, 30]
    assert scene.board.states()[LABEL] is HealthState.RESTING
    assert scene.board.of(LABEL).rests_until - monotonic() == pytest.approx(30, abs=1)
    assert [scene.rotation.pick(monotonic() + after) for after in (29, 31)] == [1, 1]


async def test_asked_probe_does_not_end_a_rest_that_the_upstream_demanded() -> None:
    """A guessed one ends: the deployment works."""
    for demanded, state in ((True, HealthState.RESTING), (False, HealthState.READY)):
        scene = Scene(response(200), response(200))
        scene.board.of(LABEL).rest(monotonic() + 60, monotonic(), demanded=demanded)

        await scene.prober.test(LABEL)

        assert scene.board.states()[LABEL] is state


async def test_outcome_of_another_worker_ends_the_rest_of_a_credential() -> None:
    """Its own deployment's health arrives as a change of its own."""
    scene = Scene()
    scene.rotation.rest(0, FailureClass.CREDENTIAL, None, monotonic())
    assert scene.rotation.pick(monotonic()) == 1

    works = (ProbeOutcome(credential=1, accepted=True, status=200),)
    scene.prober.learn(msgspec.structs.replace(ASKED, outcomes=works))
    scene.rotation.rest(1, FailureClass.CREDENTIAL, None, monotonic())

    assert scene.rotation.pick(monotonic()) == 0


async def test_unknown_deployment_is_not_probed() -> None:
    """Another configuration may have it."""
    scene, shared = Scene(), FakeSharedProbes()
    AskedProbes(scene.prober, shared).received(Probe(probe="x", deployment="other/m"))
    await asyncio.sleep(0)

    assert not shared.claimed
