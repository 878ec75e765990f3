"""The routing state of one worker, which outlives every catalogue."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping

import msgspec

from gateway.core.catalogue import Catalogue
from gateway.core.routing.credentials import CredentialRotation
from gateway.core.routing.health import HealthRules, HealthState
from gateway.core.routing.hedging import Hedging
from gateway.core.routing.retries import RetryBudget, RetryLimits
from gateway.pipeline.routing.asked_probes import AskedProbes, SharedProbes
from gateway.pipeline.routing.board import HealthBoard
from gateway.pipeline.routing.probe_rights import ProbeRights
from gateway.pipeline.routing.prober import Prober
from gateway.pipeline.routing.router import Router
from gateway.ports import SharedHealth, Transport
from gateway.settings import Routing
from gateway.telemetry.metrics import Metrics

_NUMBERS = {
    HealthState.READY: 0,
    HealthState.RESTING: 1,
    HealthState.HALF_OPEN: 2,
    HealthState.OPEN: 3,
    HealthState.OUT: 4,
}


class AttemptPolicy(msgspec.Struct, frozen=True):
    """The policy and state that all attempts of a worker share."""

    limits: RetryLimits
    budget: RetryBudget
    health: HealthBoard
    credentials: dict[str, CredentialRotation] = {}
    """Provider name -> state of its credentials; only of providers with several."""
    draw: Callable[[], float] = random.random
    """Uniform in [0, 1), for the jitter of delays."""
    hedging: Hedging = msgspec.field(default_factory=Hedging)
    """Response times, and the budgets of hedges."""


class WorkerRouting:
    """
    Keeps health, credentials and the retry budget of a worker.

    Args:
        routing: Its settings.
        transport: Sends probes.
        shared: Shares health with other workers; None: this worker is alone.
        probes: Shares the probes that operators ask for; None: there are none.
    """

    def __init__(
        self,
        routing: Routing,
        transport: Transport,
        shared: SharedHealth | None,
        probes: SharedProbes | None = None,
    ) -> None:
        self._routing = routing
        self._budget = RetryBudget(routing.retry_budget_percent, routing.retry_budget_floor)
        rules = HealthRules(
            failures_to_open=routing.breaker_failures,
            open_s=routing.breaker_open_s,
            out_probe_s=routing.out_probe_s,
            longest_rest_s=routing.max_rest_s,
        )
        self.board = HealthBoard(rules, secrets.token_hex(8), shared)
        self._prober = Prober(self.board, transport, shared)
        self._rights = None if routing.probes else ProbeRights(shared)
        if self._rights is not None:
            self.board.on_outcome = self._rights.ended
        self.asked = None if probes is None else AskedProbes(self._prober, probes)
        """Sends the probes that operators ask for."""
        self._hedging = Hedging()
        self._rotations: dict[str, CredentialRotation] = {}
        self._probing: asyncio.Task[None] | None = None
        self._shown: dict[str, HealthState] = {}
        self._refused = 0

    def start(self) -> None:
        """Start probing, if it is enabled."""
        if self._routing.probes:
            self._probing = asyncio.create_task(self._prober.run())

    async def aclose(self) -> None:
        """Stop probing, and publish the last counts."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        if self.asked is not None:
            await self.asked.aclose()
        if self._rights is not None:
            await self._rights.aclose()
        self.board.flush()

    def policy(self, catalogue: Catalogue, limit_fields: Mapping[str, str]) -> AttemptPolicy:
        """
        Make a catalogue the current one, and return the policy of attempts at its deployments.

        Args:
            catalogue: Deployments that are not in it are forgotten.
            limit_fields: Deployment label -> the field of its output limit on the OpenAI wire.
        """
        self.board.keep(catalogue)
        for provider in catalogue.providers:
            count = max(1 + len(route.alternatives) for route in provider.wires.values())
            known = self._rotations.get(provider.name)
            if known is None or known.count != count:
                self._rotations[provider.name] = CredentialRotation(count, self._routing.max_rest_s)
        routing = self._routing
        limits = RetryLimits(
            max_attempts=routing.max_attempts,
            retries=routing.retries,
            within_s=routing.attempts_within_s,
            max_wait_s=routing.max_retry_wait_s,
        )
        several = {name: each for name, each in self._rotations.items() if each.count > 1}
        self._prober.serve(catalogue, limit_fields, several)
        self._hedging.keep(
            frozenset(model.name for model in catalogue.models),
            frozenset(each.label for model in catalogue.models for each in model.deployments),
        )
        return AttemptPolicy(limits, self._budget, self.board, several, hedging=self._hedging)

    def router(self, catalogue: Catalogue) -> Router:
        """Return the router of a catalogue; call `policy` before."""
        routing = self._routing
        return Router(
            catalogue,
            self.board,
            preferences=routing.client_preferences,
            fallbacks=routing.client_fallbacks,
            affinity=routing.affinity,
            rights=self._rights,
        )

    def flush(self, metrics: Metrics) -> None:
        """Publish counts and states; call it about once per second."""
        self.board.flush()
        for label, state in self.board.states().items():
            if self._shown.get(label) is not state:
                self._shown[label] = state
                metrics.deployment_state.labels(label).set(_NUMBERS[state])
        metrics.retries_refused.inc(self._budget.refused_total - self._refused)
        self._refused = self._budget.refused_total
