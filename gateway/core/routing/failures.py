"""
The consequences of a failed attempt, in one table.

Each failure belongs to one class. The class alone decides whether the same deployment is retried,
whether another one is tried, whether another credential may help, and how the deployment's health
changes. The client's response follows from the error's kind, see `gateway.errors`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.errors import ErrorKind


class FailureClass(enum.Enum):
    """Why an attempt failed. The value is the label in health records and in the chain."""

    CLIENT = "client"
    """The request is invalid everywhere."""
    UNSUPPORTED = "unsupported"
    """This deployment cannot serve the request; another one may."""
    UNKNOWN_MODEL = "unknown_model"
    """The upstream does not know the model, or an object that the request names."""
    CREDENTIAL = "credential"
    """The provider rejects the operator's key."""
    QUOTA = "quota"
    """The operator's account has no credit, or is closed."""
    RATE_LIMIT = "rate_limit"
    """The operator's account exceeded its rate."""
    OVERLOAD = "overload"
    """The upstream has no capacity."""
    UPSTREAM = "upstream"
    """The upstream failed."""
    NETWORK = "network"
    """The upstream could not be reached, or the connection broke."""
    TIMEOUT = "timeout"
    """The upstream did not respond in time."""
    PROTOCOL = "protocol"
    """The response was malformed, empty or incomplete."""
    LOCAL = "local"
    """The gateway's own limit of connections to the upstream is reached."""


class Effect(enum.Enum):
    """What a failure does to the health of its deployment."""

    NONE = "none"
    BREAKER = "breaker"
    """It counts towards opening the breaker."""
    COOL_DOWN = "cool_down"
    """The deployment rests for as long as `retry-after` says; the breaker is not affected."""
    OUT = "out"
    """The deployment is out until a probe succeeds."""


HARMLESS: Final = (Effect.NONE, Effect.COOL_DOWN)
"""Effects of failures that, in response to a probe, still prove that the deployment works."""


class FailureRule(NamedTuple):
    """How a class of failures is handled while nothing has been sent to the client."""

    retry: bool
    """The same deployment may be tried again, within the retry budget."""
    fallback: bool
    """The next deployment is tried."""
    rotate: bool
    """Another credential of the same provider is tried first."""
    effect: Effect


RULES: Final[Mapping[FailureClass, FailureRule]] = {
    FailureClass.CLIENT: FailureRule(False, False, False, Effect.NONE),
    FailureClass.UNSUPPORTED: FailureRule(False, True, False, Effect.NONE),
    # No effect: a client can provoke a 404 with the id of a file that does not exist.
    FailureClass.UNKNOWN_MODEL: FailureRule(False, True, False, Effect.NONE),
    FailureClass.CREDENTIAL: FailureRule(False, True, True, Effect.OUT),
    FailureClass.QUOTA: FailureRule(False, True, True, Effect.OUT),
    FailureClass.RATE_LIMIT: FailureRule(True, True, True, Effect.COOL_DOWN),
    FailureClass.OVERLOAD: FailureRule(True, True, False, Effect.COOL_DOWN),
    FailureClass.UPSTREAM: FailureRule(True, True, False, Effect.BREAKER),
    FailureClass.NETWORK: FailureRule(True, True, False, Effect.BREAKER),
    # The client would time out during a second wait of the same length.
    FailureClass.TIMEOUT: FailureRule(False, True, False, Effect.BREAKER),
    FailureClass.PROTOCOL: FailureRule(True, True, False, Effect.BREAKER),
    FailureClass.LOCAL: FailureRule(False, True, False, Effect.NONE),
}

_KINDS: Final[Mapping[ErrorKind, FailureClass]] = {
    ErrorKind.UNSUPPORTED: FailureClass.UNSUPPORTED,
    ErrorKind.UPSTREAM_CONNECT: FailureClass.NETWORK,
    ErrorKind.UPSTREAM_BROKEN: FailureClass.NETWORK,
    ErrorKind.UPSTREAM_TIMEOUT: FailureClass.TIMEOUT,
    ErrorKind.UPSTREAM_MALFORMED: FailureClass.PROTOCOL,
    ErrorKind.UPSTREAM_AUTH: FailureClass.CREDENTIAL,
    ErrorKind.UPSTREAM_QUOTA: FailureClass.QUOTA,
    ErrorKind.UPSTREAM_REFUSED: FailureClass.UPSTREAM,
    ErrorKind.OVERLOADED: FailureClass.LOCAL,
}


def class_of(kind: ErrorKind) -> FailureClass:
    """
    Return the class of an error that the gateway itself detected.

    Errors of clients and of the gateway are `CLIENT`: no other deployment is tried.
    """
    return _KINDS.get(kind, FailureClass.CLIENT)
