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
from typing import Final, NamedTuple, TypeVar

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
    PREFERENCES,
    Preferences,
    nothing_left,
    read_preferences,
)
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.routing.board import HealthBoard
from gateway.pipeline.routing.probe_rights import ProbeRights
from gateway.pipeline.routing.route import Route
from gateway.ports import Headers

_MOST_REMEMBERED: Final = 256
_LAST_RESORTS = (HealthState.HALF_OPEN, HealthState.OPEN, HealthState.OUT)


Key = TypeVar("Key")
Value = TypeVar("Value")


class _Part(NamedTuple):
    """Some deployments of a model, ranked ahead of time."""

    lineup: Lineup
    routes: tuple[Route, ...]
    """One for each of the lineup's orders; for a lineup without slots a single empty one."""


class _Line(NamedTuple):
    """What is worked out ahead of time for one model and endpoint."""

    plan: Plan
    whole: _Part
    first: str | None
    """The provider or tag whose deployments come first."""
    healths: tuple[DeploymentHealth, ...]
    """Of the lineup's slots."""
    parts: dict[int, _Part]
    """Set of ready slots, as bits -> what remains of the line."""


class _Choice(NamedTuple):
    """A line and those of its slots that a client's preferences permit, as bits."""

    line: _Line
    permitted: int


class Router:
    """
    Chooses deployments for the calls of one catalogue.

    Args:
        catalogue: Its lineups are ranked here, once.
        board: The deployments' health.
        preferences: Whether clients may choose among deployments.
        fallbacks: Whether clients may name fallback models.
        affinity: Whether conversations stay on their deployment.
        rights: Let single calls of clients test deployments that are not ready; None: none does.
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
        rights: ProbeRights | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._board = board
        self._preferences = preferences
        self.allows_fallbacks = fallbacks
        """Whether clients may name fallback models."""
        self._affinity = affinity
        self._rights = rights
        self._draw = draw
        # Keyed by id, since hashing an enum takes as long as the rest; the catalogue keeps models.
        self._catalogue = catalogue
        self._lines = {
            (id(model), id(endpoint)): self._line(model, endpoint, NO_PREFERENCES)
            for model in catalogue.models
            for endpoint in Endpoint
        }
        self._preferred: dict[tuple[int, int, str | None, str | None], _Line] = {}
        self._choices: dict[tuple[int, int, Preferences], _Choice] = {}
        self._read: dict[tuple[int, bytes | None, bytes | None, bytes | None], Preferences] = {}

    def static_plan(self, model: Model, endpoint: Endpoint) -> Plan:
        """Return all deployments that can serve an endpoint, ready or not."""
        return self._lines[id(model), id(endpoint)].plan

    def preferences(self, model: Model, headers: Headers) -> Preferences:
        """
        Return the preferences in a client's headers.

        Raises:
            GatewayError: BAD_REQUEST: not allowed, or no deployment has such a name.
        """
        found = {name: value for name, value in headers if name in PREFERENCES}
        if not found:
            return NO_PREFERENCES
        key = id(model), found.get(PREFER), found.get(ONLY), found.get(EXCLUDE)
        known = self._read.get(key)
        if known is None:
            known = read_preferences(found, model.deployments, allowed=self._preferences)
            _remember(self._read, key, known)
        return known

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
            GatewayError: OVERLOADED: all upstreams demanded a pause that is not over. BAD_REQUEST:
                no deployment meets the preferences.
        """
        line = self._lines[id(model), id(endpoint)]
        if preferences is NO_PREFERENCES:
            for health in line.healths:
                if health.blocked:
                    break
            else:
                return self._pick(line.whole, conversation)
        if not line.healths:
            return line.whole.routes[0]
        permitted = (1 << len(line.healths)) - 1
        if preferences is not NO_PREFERENCES:
            line, permitted = self._chosen(model, endpoint, preferences)
            if not permitted:
                raise nothing_left(model.name, preferences)
        return self._filtered(line, permitted, conversation)

    def _pick(self, part: _Part, conversation: Callable[[], int | None] | None) -> Route:
        lineup, routes = part
        if lineup.heads < 2:
            return routes[0]
        held = conversation() if conversation is not None and self._affinity else None
        return routes[lineup.pick(held, self._draw)]

    def _filtered(
        self, line: _Line, permitted: int, conversation: Callable[[], int | None] | None
    ) -> Route:
        """Return the candidates that are permitted and ready."""
        now, ready, bit = monotonic(), 0, 1
        for health in line.healths:
            if permitted & bit and (not health.blocked or health.state(now) is HealthState.READY):
                ready |= bit
            bit <<= 1
        probed = None
        if self._rights is not None and ready != permitted:
            probed = _probed(self._rights, line, permitted & ~ready, now)
        if not ready:
            if probed is not None:
                return Route((probed,), line.plan)
            return self._last_resort(line.plan, _slots_of(line, permitted), now)
        part = line.parts.get(ready)
        if part is None:
            lineup = line.whole.lineup.only(_slots_of(line, ready), line.first)
            part = _part_of(lineup, line.plan)
            _remember(line.parts, ready, part)
        route = self._pick(part, conversation)
        if probed is None:
            return route
        return Route((probed, *route.candidates), line.plan)

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

    def _chosen(self, model: Model, endpoint: Endpoint, preferences: Preferences) -> _Choice:
        key = id(model), id(endpoint), preferences
        choice = self._choices.get(key)
        if choice is None:
            line, permitted = self._preferring(model, endpoint, preferences), 0
            for number, slot in enumerate(line.whole.lineup.slots):
                if preferences.permits(slot.candidate.deployment):
                    permitted |= 1 << number
            choice = _Choice(line, permitted)
            _remember(self._choices, key, choice)
        return choice

    def _preferring(self, model: Model, endpoint: Endpoint, preferences: Preferences) -> _Line:
        policy, first = preferences.policy, preferences.first
        if policy is None and first is None:
            return self._lines[id(model), id(endpoint)]
        key = id(model), id(endpoint), policy, first
        line = self._preferred.get(key)
        if line is None:
            # Bounded: policies, providers and tags are checked before they get here.
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
        healths = tuple(slot.health for slot in lineup.slots)
        return _Line(planned, _part_of(lineup, planned), preferences.first, healths, {})


def _part_of(lineup: Lineup, planned: Plan) -> _Part:
    routes = tuple(Route(order, planned) for order in lineup.orders)
    return _Part(lineup, routes or (Route((), planned),))


def _slots_of(line: _Line, bits: int) -> list[Slot]:
    return [slot for number, slot in enumerate(line.whole.lineup.slots) if bits >> number & 1]


def _probed(rights: ProbeRights, line: _Line, blocked: int, now: float) -> Candidate | None:
    """
    Return at most one deployment for a call to test. It is tried first, since a later candidate
    may never be tried.
    """
    for slot in _slots_of(line, blocked):
        if rights.try_probe(slot.health, now):
            return slot.candidate
    return None


def _remember(known: dict[Key, Value], key: Key, value: Value) -> None:
    """Add an entry; what clients and failures can cause is bounded."""
    if len(known) >= _MOST_REMEMBERED:
        known.clear()
    known[key] = value


def _rests_on_demand(slot: Slot, now: float) -> bool:
    health = slot.health
    return health.demanded and health.state(now) is HealthState.RESTING
