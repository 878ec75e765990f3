"""Probes of deployments that operators request, and their outcomes."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.routing.failures import FailureClass

TIMEOUT_S: Final = 20.0
"""How long an upstream may take to respond to a probe."""
MAX_CREDENTIALS: Final = 8
"""Credentials of a provider that one probe tests."""
MAX_MESSAGE: Final = 300


class ProbeOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the upstream responded to one credential."""

    credential: int
    """Its place in the configuration, from 1."""
    accepted: bool
    """The credential works, even if the request was refused for another reason."""
    status: int = 0
    """The HTTP status; 0: there was no response."""
    failure: FailureClass | None = None
    retry_after_s: float | None = None
    """Seconds for which the upstream demands that no call is sent."""
    message: str = ""
    """The upstream's, verbatim, at most MAX_MESSAGE characters."""
    ms: int = 0


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A probe of one deployment, with every credential of its provider."""

    probe: str
    """Its id."""
    deployment: str
    outcomes: tuple[ProbeOutcome, ...] | None = None
    """None: the probe is requested, but not finished."""
