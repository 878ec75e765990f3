"""
Which deployments a call may use, in which order, and on which wire each is spoken to.

The same wire beats translation: the bytes stay the vendor's and prompt caches survive.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.model import Deployment, Endpoint, Model, Wire, WireRoute


class Candidate(NamedTuple):
    """One deployment and the wire it will be spoken to on."""

    deployment: Deployment
    wire: Wire

    @property
    def route(self) -> WireRoute:
        """Where the deployment's provider speaks this wire."""
        return self.deployment.provider.wires[self.wire]


class Plan(NamedTuple):
    """Candidates, each deployment at most once, best first; when there are none, why."""

    candidates: tuple[Candidate, ...]
    reason: str | None = None
    """For the caller: a sentence that names the model. None when there are candidates."""


def plan(model: Model, client_wire: Wire, endpoint: Endpoint) -> Plan:
    """
    Return the ordered candidates for one call.

    Deployments that speak the client's wire come before those that need a translation; within
    both, the order is the catalogue's. Embeddings and token counts are relayed and never
    translated; a token count also needs a provider that has the endpoint. An empty plan for a
    token count means that the gateway estimates.
    """
    native = [
        Candidate(deployment, client_wire)
        for deployment in model.deployments
        if client_wire in deployment.wires and _serves(deployment, client_wire, endpoint)
    ]
    if endpoint in (Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS):
        return Plan(tuple(native), None if native else _refusal(model, client_wire, endpoint))
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
        f"No deployment of the model '{model.name}' serves {endpoint.value} "
        f"on the {client_wire.value} wire."
    )
