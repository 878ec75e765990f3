"""The candidates of one call."""

from __future__ import annotations

import msgspec

from gateway.core.routing.plan import Candidate, Plan


class Route(msgspec.Struct, frozen=True):
    """The candidates of one call."""

    candidates: tuple[Candidate, ...]
    plan: Plan
    """All deployments that can serve the endpoint, or the reason for having none."""
    last_resort: bool = False
    """No deployment is ready: only one attempt is made."""
