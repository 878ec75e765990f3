"""
Probes deployments that are out or whose breaker is open, with the smallest possible call.

Only one worker of all pods probes a deployment at a time; a healthy deployment is never probed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from time import monotonic, time
from typing import NamedTuple

import msgspec

from gateway.core.catalogue import Catalogue
from gateway.core.model import Clocks, Deployment, Wire
from gateway.core.routing.credentials import CredentialRotation
from gateway.core.routing.failures import HARMLESS, RULES, Effect, FailureClass, class_of
from gateway.core.routing.health import PROBED
from gateway.core.routing.order import Failure
from gateway.core.routing.plan import Candidate
from gateway.core.routing.probes import (
    MAX_CREDENTIALS,
    MAX_MESSAGE,
    TIMEOUT_S,
    Probe,
    ProbeOutcome,
)
from gateway.errors import GatewayError
from gateway.pipeline.routing.board import HealthBoard
from gateway.ports import SharedHealth, Transport, UpstreamRequest
from gateway.protocols.http.errors.upstream_faults import failure_class, read_fault
from gateway.protocols.http.headers import translated_headers
from gateway.protocols.http.retry_after import dated
from gateway.upstream.decompress import decompress

EVERY_S = 0.5
_RESPONSE_BYTES = 256 * 1024
_PATHS = {Wire.OPENAI: "/chat/completions", Wire.ANTHROPIC: "/v1/messages"}
_SHORTEST_SECRET = 8
_PLAIN = frozenset({b"accept", b"anthropic-version", b"content-type", b"host", b"user-agent"})
logger = logging.getLogger(__name__)


class _Result(NamedTuple):
    """What an upstream responded to a probe."""

    failure: Failure | None
    status: int = 0
    message: str = ""


class Prober:
    """
    Probes deployments that are not ready.

    Args:
        board: Has the deployments' health, and receives the outcomes.
        transport: Sends the probes.
        shared: Decides which worker probes; None: this one.
    """

    def __init__(
        self,
        board: HealthBoard,
        transport: Transport,
        shared: SharedHealth | None,
    ) -> None:
        self._board = board
        self._transport = transport
        self._shared = shared
        self._limit_fields: Mapping[str, str] = {}
        self._credentials: Mapping[str, CredentialRotation] = {}
        self._deployments: dict[str, Deployment] = {}
        self._running: set[asyncio.Task[None]] = set()

    def serve(
        self,
        catalogue: Catalogue,
        limit_fields: Mapping[str, str],
        credentials: Mapping[str, CredentialRotation],
    ) -> None:
        """
        Probe the deployments of a catalogue from now on.

        Args:
            catalogue: The current one.
            limit_fields: Deployment label -> the field of its output limit on the OpenAI wire.
            credentials: Provider name -> state of its credentials, of providers with several.
        """
        self._credentials = credentials
        self._limit_fields = limit_fields
        self._deployments = {
            each.label: each for model in catalogue.models for each in model.deployments
        }

    @property
    def running(self) -> int:
        """Probes whose outcome is awaited."""
        return len(self._running)

    async def run(self) -> None:
        """Probe all deployments that are due, until cancelled."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                self.probe_due(monotonic())
        finally:
            running = [*self._running]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def probe_due(self, now: float) -> None:
        """Start a probe of each deployment that is due, unless one is running."""
        for health in self._board.blocked():
            deployment = self._deployments.get(health.label)
            if deployment is not None and deployment.wires and health.try_probe(now):
                task = asyncio.create_task(self._probe(deployment))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _probe(self, deployment: Deployment) -> None:
        if self._shared is None:
            await self._decide(deployment)
            return
        label = deployment.label
        token = await self._shared.claim_probe(label)
        health = self._board.of(label)
        if token is None:
            # Another worker probes, and publishes the outcome.
            health.probe_unfinished(monotonic())
            return
        try:
            # Otherwise another worker's probe has ended while this one waited for its turn.
            if health.state(monotonic()) in PROBED:
                await self._decide(deployment)
        finally:
            # After the outcome was published, so that no other worker repeats the probe.
            self._shared.release_probe(label, token)

    async def _decide(self, deployment: Deployment) -> None:
        """Send a probe, and change the deployment's health by its outcome."""
        health = self._board.of(deployment.label)
        try:
            failure = await self._failure(deployment)
        except Exception:  # the root of a task: the deployment must remain due
            logger.exception("deployment_probe_failed")
            health.probe_unfinished(monotonic())
            return
        if failure is None or RULES[failure.kind].effect is Effect.NONE:
            self._board.probe_succeeded(health)
        elif RULES[failure.kind].effect is Effect.COOL_DOWN:
            self._board.probe_succeeded(health, failure)
        else:
            self._board.probe_failed(health, failure)

    async def _failure(self, deployment: Deployment) -> Failure | None:
        """Send a probe; return None if the deployment responded."""
        rotation = self._credentials.get(deployment.provider.name)
        credential = 0 if rotation is None else rotation.pick(monotonic())
        candidate = Candidate(deployment, deployment.wires[0], credential)
        failure = (await self._result(candidate)).failure
        if rotation is None:
            return failure
        if failure is None:
            rotation.restore(credential)
        elif RULES[failure.kind].rotate:
            # The next probe is sent with another credential.
            seconds = failure.retry_after_s
            if rotation.rest(credential, failure.kind, seconds, monotonic()):
                # The rest that the upstream demands is this credential's only.
                return failure._replace(retry_after_s=None)
        return failure

    def knows(self, label: str) -> bool:
        """Return whether a deployment can be tested."""
        deployment = self._deployments.get(label)
        return deployment is not None and bool(deployment.wires)

    async def test(self, label: str) -> tuple[ProbeOutcome, ...]:
        """
        Probe a deployment that `knows` has, whatever its state, with each credential at once.

        It is ready afterwards if one of them works, unless the upstream demands a rest.
        """
        deployment = self._deployments[label]
        route = deployment.provider.wires[deployment.wires[0]]
        count = min(1 + len(route.alternatives), MAX_CREDENTIALS)
        found = await asyncio.gather(*(self._outcome(deployment, n) for n in range(count)))
        health = self._board.of(label)
        accepted = [each for each in found if each.accepted]
        if accepted:
            rest = _shortest_rest(accepted)
            if rest is not None or not self._board.is_ready(label):
                self._board.probe_succeeded(health, rest)
        else:
            first = found[0]
            assert first.failure is not None
            self._board.probe_failed(health, Failure(first.failure, first.status))
        return tuple(found)

    def learn(self, probe: Probe) -> None:
        """Use the credentials that a probe found working, and let others rest."""
        deployment = self._deployments.get(probe.deployment)
        rotation = None if deployment is None else self._credentials.get(deployment.provider.name)
        if rotation is None:
            return
        for each in (probe.outcomes or ())[: rotation.count]:
            if each.failure is not None and RULES[each.failure].rotate:
                seconds = each.retry_after_s
                rotation.rest(each.credential - 1, each.failure, seconds, monotonic())
            elif each.accepted:
                rotation.restore(each.credential - 1)

    async def _outcome(self, deployment: Deployment, credential: int) -> ProbeOutcome:
        began = monotonic()
        candidate = Candidate(deployment, deployment.wires[0], credential)
        failure, status, message = await self._result(candidate)
        return ProbeOutcome(
            credential=credential + 1,
            accepted=failure is None or RULES[failure.kind].effect in HARMLESS,
            status=status,
            failure=None if failure is None else failure.kind,
            retry_after_s=None if failure is None else failure.retry_after_s,
            message=_without_credential(message, candidate)[:MAX_MESSAGE],
            ms=round((monotonic() - began) * 1000),
        )

    async def _result(self, candidate: Candidate) -> _Result:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                response = decompress(await self._transport.send(self._request(candidate)))
                try:
                    body = await response.read(_RESPONSE_BYTES)
                finally:
                    response.close()
        except GatewayError as error:
            return _Result(Failure(class_of(error.kind)), message=error.detail or error.message)
        except TimeoutError:
            return _Result(
                Failure(FailureClass.TIMEOUT), message=f"no response in {TIMEOUT_S:.0f} s"
            )
        if response.status < 300:
            return _Result(None, response.status)
        received = dated(response.headers, time())
        fault = read_fault(candidate.wire, response.status, received, body)
        failure = Failure(failure_class(fault), fault.status, fault.retry_after_s)
        return _Result(failure, response.status, fault.message)

    def _request(self, candidate: Candidate) -> UpstreamRequest:
        deployment, wire = candidate.deployment, candidate.wire
        limit = "max_tokens"
        if wire is Wire.OPENAI:
            limit = self._limit_fields.get(deployment.label, limit)
        body = {
            "model": deployment.upstream_model,
            "messages": [{"role": "user", "content": "ping"}],
            limit: 1,
        }
        clocks = deployment.clocks
        return UpstreamRequest(
            origin=candidate.route.origin,
            method="POST",
            path=candidate.route.base_path + _PATHS[wire],
            headers=translated_headers(wire, candidate.headers, stream=False),
            body=msgspec.json.encode(body),
            clocks=_short(clocks),
            head_timeout_s=TIMEOUT_S,
        )


def _shortest_rest(accepted: Sequence[ProbeOutcome]) -> Failure | None:
    """Return the refusal whose demanded rest ends first; None: one credential need not rest."""
    demands = [
        Failure(each.failure, each.status, each.retry_after_s)
        for each in accepted
        if each.failure is not None
        and each.retry_after_s is not None
        and RULES[each.failure].effect is Effect.COOL_DOWN
    ]
    if len(demands) < len(accepted):
        return None
    return min(demands, key=lambda each: each.retry_after_s or 0.0)


def _short(clocks: Clocks) -> Clocks:
    return msgspec.structs.replace(clocks, total_s=TIMEOUT_S)


def _without_credential(message: str, candidate: Candidate) -> str:
    """Return an upstream's message without a credential that it repeats."""
    secret = (value for name, value in candidate.headers if name not in _PLAIN)
    for value in secret:
        for part in value.decode("latin-1").split():
            if len(part) >= _SHORTEST_SECRET:
                message = message.replace(part, "\N{HORIZONTAL ELLIPSIS}")
    return message
