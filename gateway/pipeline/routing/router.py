"""
Chooses the deployments of a call by policy, health, the client's preferences and the conversation.

If all deployments are ready and there are no preferences, the choice is a lookup and a pick.
Otherwise deployments that are not ready are left out; if none is ready, the failing ones are tried
once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

import msgspec

from gateway.core.catalogue import Catalogue
from gateway.core.model import Endpoint, Model
from gateway.core.routing.health import DeploymentHealth, HealthState
from gateway.core.routing.lineup import Lineup, Slot, default_policy
from gateway.core.routing.plan import Candidate, Plan, plan
from gateway.core.routing.preferences import (
    EXCLUDE,
    NO_PREFERENCES,
    ONLY,
    PREFER,
    Preferences,
    nothing_left,
    read_preferences,
)
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.routing.board import HealthBoard
from gateway.ports import Headers

_PREFERENCES = frozenset({PREFER, ONLY, EXCLUDE})
_LAST_RESORTS = (HealthState.HALF_OPEN, HealthState.OPEN, HealthState.OUT)


class Route(msgspec.Struct, frozen=True):
    """The candidates of one call."""

    candidates: tuple[Candidate, ...]
    plan: Plan
    """All deployments that can serve the endpoint, or the reason for having none."""
    last_resort: bool = False
    """No deployment is ready: only one attempt is made."""


class _Line(NamedTuple):
    """The precomputed choices for one model and endpoint."""

    plan: Plan
    lineup: Lineup
    healths: tuple[DeploymentHealth, ...]
    routes: tuple[Route, ...]
    """One for each of the lineup's orders; for a lineup without slots a single empty one."""


class Router:
    """
    Chooses deployments for the calls of one catalogue.

    Args:
        catalogue: Its lineups are ranked here, once.
        board: The deployments' health.
        preferences: Whether clients may choose among deployments.
        fallbacks: Whether clients may name fallback models.
        affinity: Whether conversations stay on their deployment.
        passive_probes: Whether single calls of clients test deployments that are not ready.
        draw: Uniform in [0, 1).
    """

    def __init__(
        self,
        catalogue: Catalogue,
        board: HealthBoard,
        *,
        preferences: bool = True,
        fallbacks: bool = True,
        affinity: bool = True,
        passive_probes: bool = False,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._board = board
        self._preferences = preferences
        self.allows_fallbacks = fallbacks
        """Whether clients may name fallback models."""
        self._affinity = affinity
        self._passive_probes = passive_probes
        self._draw = draw
        # Keyed by id, since hashing an enum takes as long as the rest; the catalogue keeps models.
        self._catalogue = catalogue
        self._lines = {
            (id(model), id(endpoint)): self._line(model, endpoint, NO_PREFERENCES)
            for model in catalogue.models
            for endpoint in Endpoint
        }
        self._preferred: dict[tuple[str, Endpoint, str | None, str | None], _Line] = {}

    def static_plan(self, model: Model, endpoint: Endpoint) -> Plan:
        """Return all deployments that can serve an endpoint, ready or not."""
        return self._lines[id(model), id(endpoint)].plan

    def preferences(self, model: Model, headers: Headers) -> Preferences:
        """
        Return the preferences in a client's headers.

        Raises:
            GatewayError: BAD_REQUEST: not allowed, or no deployment has such a name.
        """
        for name, _ in headers:
            if name in _PREFERENCES:
                break
        else:
            return NO_PREFERENCES
        found = {name: value for name, value in headers if name in _PREFERENCES}
        return read_preferences(found, model.deployments, allowed=self._preferences)

    def route(
        self,
        model: Model,
        endpoint: Endpoint,
        preferences: Preferences = NO_PREFERENCES,
        conversation: Callable[[], int | None] | None = None,
    ) -> Route:
        """
        Return the candidates for one call.

        Args:
            model: One of the catalogue's.
            endpoint: The requested endpoint.
            preferences: From `preferences`.
            conversation: Returns the conversation's hash; called only if it matters.

        Raises:
            GatewayError: OVERLOADED: all deployments rest as their upstreams demanded. BAD_REQUEST:
                no deployment meets the preferences.
        """
        line = self._lines[id(model), id(endpoint)]
        if preferences is NO_PREFERENCES:
            for health in line.healths:
                if health.blocked:
                    break
            else:
                lineup = line.lineup
                if lineup.heads < 2:
                    return line.routes[0]
                return line.routes[lineup.pick(self._held(conversation), self._draw)]
        if not line.healths:
            return line.routes[0]
        return self._filtered(model, endpoint, preferences, conversation)

    def _filtered(
        self,
        model: Model,
        endpoint: Endpoint,
        preferences: Preferences,
        conversation: Callable[[], int | None] | None,
    ) -> Route:
        """Return the candidates that are permitted and ready."""
        line = self._preferring(model, endpoint, preferences)
        permitted = [
            slot for slot in line.lineup.slots if preferences.permits(slot.candidate.deployment)
        ]
        if not permitted:
            raise nothing_left(model.name)
        now = monotonic()
        ready = [slot for slot in permitted if self._admits(slot, now)]
        if not ready:
            return self._last_resort(line.plan, permitted, now)
        lineup = line.lineup
        if len(ready) != len(lineup.slots):
            lineup = lineup.only(ready, preferences.first)
        held = self._held(conversation) if lineup.heads > 1 else None
        return Route(lineup.order(held, self._draw), line.plan)

    def _held(self, conversation: Callable[[], int | None] | None) -> int | None:
        return conversation() if conversation is not None and self._affinity else None

    def _admits(self, slot: Slot, now: float) -> bool:
        health = slot.health
        if health.state(now) is HealthState.READY:
            return True
        return self._passive_probes and health.try_probe(now)

    def _last_resort(self, planned: Plan, slots: list[Slot], now: float) -> Route:
        """
        Return the deployments that may respond although they are not ready.

        The gateway's own wrong assessment must not cause an outage. The call is refused only if the
        upstreams themselves named a time before which they accept no calls.
        """
        guessed = [slot for slot in slots if not _rests_on_demand(slot, now)]
        if not guessed:
            wait_s = min(slot.health.rests_until for slot in slots) - now
            raise GatewayError(
                ErrorKind.OVERLOADED,
                "The model's upstream providers are at their limit. Retry later.",
                retry_after_s=max(wait_s, 1.0),
            )
        ranks = {state: number for number, state in enumerate(_LAST_RESORTS, 1)}
        guessed.sort(key=lambda slot: ranks.get(slot.health.state(now), 0))
        return Route((guessed[0].candidate,), planned, last_resort=True)

    def _preferring(self, model: Model, endpoint: Endpoint, preferences: Preferences) -> _Line:
        policy, first = preferences.policy, preferences.first
        if policy is None and first is None:
            return self._lines[id(model), id(endpoint)]
        key = (model.name, endpoint, policy, first)
        line = self._preferred.get(key)
        if line is None:
            # Bounded, since preferences contain only known policies and providers.
            line = self._preferred[key] = self._line(model, endpoint, preferences)
        return line

    def _line(self, model: Model, endpoint: Endpoint, preferences: Preferences) -> _Line:
        planned = plan(model, endpoint.wire, endpoint)
        slots = [
            Slot(candidate, self._board.of(candidate.deployment.label))
            for candidate in planned.candidates
        ]
        policy = preferences.policy or model.policy or default_policy(model.deployments)
        lineup = Lineup(slots, policy, preferences.first)
        routes = tuple(Route(order, planned) for order in lineup.orders) or (Route((), planned),)
        return _Line(planned, lineup, tuple(slot.health for slot in slots), routes)


def _rests_on_demand(slot: Slot, now: float) -> bool:
    health = slot.health
    return health.demanded and health.state(now) is HealthState.RESTING
