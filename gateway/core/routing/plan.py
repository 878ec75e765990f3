"""
Selects the deployments for a call, their order, and the wire used for each.

The client's own wire is preferred to translation: it keeps the vendor's bytes and prompt caches.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.model import Deployment, Endpoint, Model, Wire, WireRoute


class Candidate(NamedTuple):
    """A deployment and the wire used for it."""

    deployment: Deployment
    wire: Wire
    credential: int = 0
    """Which of the provider's credentials is sent."""

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The route's headers with the candidate's credential."""
        route = self.deployment.provider.wires[self.wire]
        return route.alternatives[self.credential - 1] if self.credential else route.headers

    @property
    def route(self) -> WireRoute:
        """The provider's route for this wire."""
        return self.deployment.provider.wires[self.wire]


class Plan(NamedTuple):
    """Candidates, best first, each deployment at most once; or the reason for having none."""

    candidates: tuple[Candidate, ...]
    reason: str | None = None
    """A sentence for the client that names the model; None if there are candidates."""
    is_final: bool = False
    """No deployment of the model can ever serve the endpoint."""


def plan(model: Model, client_wire: Wire, endpoint: Endpoint) -> Plan:
    """
    Return the ordered candidates for one call.

    Deployments on the client's wire come before those that need translation, each group in the
    catalogue's order. Embeddings and token counts are relayed, never translated; a token count also
    needs a provider with that endpoint. If a token count has no candidate, the gateway estimates.
    """
    native = [
        Candidate(deployment, client_wire)
        for deployment in model.deployments
        if client_wire in deployment.wires and _serves(deployment, client_wire, endpoint)
    ]
    if endpoint in (Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS):
        reason = None if native else _refusal(model, client_wire, endpoint)
        return Plan(tuple(native), reason, is_final=not native and bool(model.deployments))
    translated = [
        Candidate(deployment, deployment.wires[0])
        for deployment in model.deployments
        if deployment.wires and client_wire not in deployment.wires
    ]
    candidates = (*native, *translated)
    return Plan(candidates, None if candidates else f"The model '{model.name}' has no deployment.")


def _serves(deployment: Deployment, wire: Wire, endpoint: Endpoint) -> bool:
    if endpoint is not Endpoint.COUNT_TOKENS:
        return True
    return deployment.provider.wires[wire].count_tokens


def _refusal(model: Model, client_wire: Wire, endpoint: Endpoint) -> str:
    return (
        f"The model '{model.name}' does not serve {endpoint.value}; use another model: "
        f"none of its deployments is on the {client_wire.value} wire."
    )
