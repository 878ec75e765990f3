"""
Chooses the deployments of a call: policy, health, the client's preferences, the conversation.

With all deployments ready and no preferences the choice is a look-up and a pick. Otherwise the
deployments that are not ready are left out; if none is ready, the failing ones are tried once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic

import msgspec

from gateway.core.catalogue import Catalogue
from gateway.core.model import Endpoint, Model, Wire
from gateway.core.routing.health import HealthState
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
    """What serves the endpoint at all, or the reason why nothing does."""
    last_resort: bool = False
    """No deployment is ready: one attempt is made, and nothing is repeated."""


class Router:
    """
    Chooses deployments for the calls of one catalogue.

    Args:
        catalogue: Its lineups are ranked here, once.
        board: The deployments' health.
        preferences: Clients may choose among deployments.
        fallbacks: Clients may name fallback models.
        affinity: Whether conversations stay on their deployment.
        passive_probes: Single calls of clients test what is out.
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
        self._plans: dict[tuple[str, Wire, Endpoint], Plan] = {}
        self._lineups: dict[tuple[str, Wire, Endpoint, str | None, str | None], Lineup] = {}
        for model in catalogue.models:
            for endpoint in Endpoint:
                planned = plan(model, endpoint.wire, endpoint)
                self._plans[model.name, endpoint.wire, endpoint] = planned
                self._lineup(model, endpoint.wire, endpoint, planned, NO_PREFERENCES)

    def static_plan(self, model: Model, wire: Wire, endpoint: Endpoint) -> Plan:
        """Return what serves an endpoint at all, ready or not."""
        return self._plans.get((model.name, wire, endpoint)) or plan(model, wire, endpoint)

    def preferences(self, model: Model, headers: Headers) -> Preferences:
        """
        Return the preferences in a client's headers.

        Raises:
            GatewayError: BAD_REQUEST: not allowed, or no deployment has such a name.
        """
        found = {name: value for name, value in headers if name in _PREFERENCES}
        if not found:
            return NO_PREFERENCES
        return read_preferences(found, model.deployments, allowed=self._preferences)

    def route(
        self,
        model: Model,
        wire: Wire,
        endpoint: Endpoint,
        preferences: Preferences = NO_PREFERENCES,
        conversation: Callable[[], int | None] | None = None,
    ) -> Route:
        """
        Return the candidates for one call.

        Args:
            model: One of the catalogue's.
            wire: The dialect of the request.
            endpoint: Its endpoint.
            preferences: From `preferences`.
            conversation: Returns the conversation's hash; called only if it matters.

        Raises:
            GatewayError: OVERLOADED: all deployments rest as their upstreams demanded. BAD_REQUEST:
                no deployment fulfils the preferences.
        """
        planned = self.static_plan(model, wire, endpoint)
        if not planned.candidates:
            return Route((), planned)
        lineup = self._lineup(model, wire, endpoint, planned, preferences)
        slots = lineup.slots
        for slot in slots:
            if slot.health.blocked:
                break
        else:
            if preferences is NO_PREFERENCES:
                return Route(self._order(lineup, conversation), planned)
        permitted = [slot for slot in slots if preferences.permits(slot.candidate.deployment)]
        if not permitted:
            raise nothing_left(model.name)
        now = monotonic()
        ready = [slot for slot in permitted if self._admits(slot, now)]
        if not ready:
            return self._last_resort(planned, permitted, now)
        if len(ready) != len(slots):
            lineup = lineup.only(ready, preferences.first)
        return Route(self._order(lineup, conversation), planned)

    def _order(
        self, lineup: Lineup, conversation: Callable[[], int | None] | None
    ) -> tuple[Candidate, ...]:
        held = None
        if conversation is not None and lineup.heads > 1 and self._affinity:
            held = conversation()
        return lineup.order(held, self._draw)

    def _admits(self, slot: Slot, now: float) -> bool:
        health = slot.health
        if health.state(now) is HealthState.READY:
            return True
        return self._passive_probes and health.try_probe(now)

    def _last_resort(self, planned: Plan, slots: list[Slot], now: float) -> Route:
        """
        Return the deployments that may respond although they are not ready.

        A wrong verdict must not become an outage. Only where the upstream itself named a time
        before which it accepts nothing, the client is refused with that time.
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

    def _lineup(
        self,
        model: Model,
        wire: Wire,
        endpoint: Endpoint,
        planned: Plan,
        preferences: Preferences,
    ) -> Lineup:
        key = (model.name, wire, endpoint, preferences.policy, preferences.first)
        lineup = self._lineups.get(key)
        if lineup is None:
            policy = preferences.policy or model.policy or default_policy(model.deployments)
            slots = [
                Slot(candidate, self._board.of(candidate.deployment.label))
                for candidate in planned.candidates
            ]
            # Bounded: policies and providers are checked before they get here.
            lineup = self._lineups[key] = Lineup(slots, policy, preferences.first)
        return lineup


def _rests_on_demand(slot: Slot, now: float) -> bool:
    health = slot.health
    return health.demanded and health.state(now) is HealthState.RESTING
