"""
The deployments of one model for one kind of call, ranked by policy ahead of time.

A call then takes the head of the line: as long as all deployments are ready and the client has no
preferences, nothing is sorted and nothing is allocated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final

from gateway.core.model import Deployment, TokenPrices
from gateway.core.routing.affinity import SLACK, has_room, hash32, mix, weighted_rank
from gateway.core.routing.health import DeploymentHealth
from gateway.core.routing.plan import Candidate

INPUT_SHARE: Final = 3
"""Costs are compared for three parts of input to one of output."""
_EXPLORED: Final = 0.05
"""Share of calls that the `latency` policy sends elsewhere to measure slower deployments."""
_LAST_BUCKET: Final = 4095
"""Conversations fall into 4096 buckets; holders are ranked once per bucket, not per call."""
_UNKNOWN: Final = 255

Draw = Callable[[], float]


class Slot:
    """A candidate and its health."""

    __slots__ = ("candidate", "health", "identity", "weight")

    def __init__(self, candidate: Candidate, health: DeploymentHealth) -> None:
        self.candidate = candidate
        self.health = health
        self.identity = hash32(candidate.deployment.label.encode())
        self.weight = candidate.deployment.weight


class Lineup:
    """
    Slots in the order of a policy; the first `heads` of them rank equally.

    Args:
        slots: Native before translated, see `plan`.
        policy: `cheapest`, `priority`, `weighted` or `latency`.
        first: A provider or tag whose deployments come before all others.
    """

    # `orders[n]`: the candidates of all slots, beginning with the n-th head.

    __slots__ = (
        "_cumulated",
        "_equals",
        "_has_weights",
        "_healths",
        "_holders",
        "_policy",
        "heads",
        "orders",
        "slots",
    )

    def __init__(self, slots: Sequence[Slot], policy: str, first: str | None = None) -> None:
        wire = slots[0].candidate.wire if slots else None

        def key(slot: Slot) -> tuple[object, ...]:
            deployment = slot.candidate.deployment
            others = first != deployment.provider.name and first not in deployment.tags
            return others, slot.candidate.wire is not wire, *_policy_key(deployment, policy)

        ranked = sorted(slots, key=key)  # stable: equals stay in the catalogue's order
        self.slots = tuple(ranked)
        best = key(ranked[0]) if ranked else None
        self.heads = sum(1 for slot in ranked if key(slot) == best)
        if policy == "priority":
            self.heads = min(self.heads, 1)
        self._policy = policy
        self._equals = self.slots[: self.heads]
        self._healths = tuple(slot.health for slot in self._equals)
        self._holders = bytearray()
        self._has_weights = len({slot.weight for slot in self._equals}) > 1
        candidates = tuple(slot.candidate for slot in ranked)
        self.orders = tuple(
            (candidates[head], *candidates[:head], *candidates[head + 1 :])
            for head in range(self.heads)
        )
        self._cumulated = list(itertools.accumulate(slot.weight for slot in self._equals))

    def only(self, slots: Sequence[Slot], first: str | None) -> Lineup:
        """Return the lineup of some of the slots."""
        return Lineup(slots, self._policy, first)

    def order(self, conversation: int | None, draw: Draw) -> tuple[Candidate, ...]:
        """Return the candidates for one call, best first, see `pick`."""
        return self.orders[self.pick(conversation, draw)] if self.orders else ()

    def pick(self, conversation: int | None, draw: Draw) -> int:
        """
        Return which of `orders` one call takes; all slots must be ready.

        Args:
            conversation: The hash of the call's conversation, which is kept on the deployment that
                holds its prompt cache; None: the call belongs to none.
            draw: Uniform in [0, 1).
        """
        if self.heads < 2:
            return 0
        if conversation is not None:
            head = self._held(conversation)
            if head is not None:
                return head
        if self._policy == "weighted":
            return self._weighted(draw())
        if self._policy == "latency":
            return self._fastest(draw)
        return self._less_loaded(draw)

    def _held(self, conversation: int) -> int | None:
        """Return the head that holds a conversation, unless it is overloaded."""
        bucket = conversation & _LAST_BUCKET
        holders = self._holders or self._new_holders()
        holder = holders[bucket]
        if holder == _UNKNOWN:
            holder = self._holder(bucket)
            if holder < _UNKNOWN:
                holders[bucket] = holder
        load = self._healths[holder].in_flight
        if load <= SLACK:
            return holder
        total = sum(health.in_flight for health in self._healths)
        return holder if has_room(load, total, self.heads) else None

    def _new_holders(self) -> bytearray:
        self._holders = bytearray([_UNKNOWN]) * (_LAST_BUCKET + 1)
        return self._holders

    def _holder(self, bucket: int) -> int:
        """Return the head that holds the conversations of a bucket."""
        best, highest = 0, -1.0
        for index, slot in enumerate(self._equals):
            if self._has_weights:
                rank = weighted_rank(bucket, slot.identity, slot.weight)
            else:
                rank = float(mix(bucket, slot.identity))
            if rank > highest:
                best, highest = index, rank
        return best

    def _weighted(self, drawn: float) -> int:
        target = drawn * self._cumulated[-1]
        for index, upper in enumerate(self._cumulated):
            if target < upper:
                return index
        return self.heads - 1

    def _fastest(self, draw: Draw) -> int:
        if draw() < _EXPLORED:
            return int(draw() * self.heads)
        slots = self.slots
        return min(range(self.heads), key=lambda index: slots[index].health.ttft_s)

    def _less_loaded(self, draw: Draw) -> int:
        """Return the better of two random heads."""
        heads, slots = self.heads, self.slots
        one = int(draw() * heads)
        other = (one + 1 + int(draw() * (heads - 1))) % heads
        first, second = slots[one].health, slots[other].health
        # A deployment whose speed is unknown is taken to be as fast as the other one.
        first_s = first.ttft_s or second.ttft_s or 1.0
        second_s = second.ttft_s or first_s
        loaded = (first.in_flight + 1) * first_s, (second.in_flight + 1) * second_s
        return one if loaded[0] <= loaded[1] else other


def default_policy(deployments: Sequence[Deployment]) -> str:
    """Return the policy of a model without one: by cost if all costs are known."""
    known = all(each.cost is not None for each in deployments)
    return "cheapest" if known and len(deployments) > 1 else "priority"


def blended_cost(prices: TokenPrices) -> int:
    """Return the cost by which deployments are compared, in nano-dollars."""
    return INPUT_SHARE * prices.input + prices.output


def _policy_key(deployment: Deployment, policy: str) -> tuple[object, ...]:
    if policy == "cheapest":
        cost = deployment.cost
        return cost is None, 0 if cost is None else blended_cost(cost)
    return (deployment.priority,)
