"""The routing preferences in a client's headers, as far as the operator allows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.core.model import Deployment
from gateway.errors import ErrorKind, GatewayError

PREFER: Final = b"x-capio-prefer"
ONLY: Final = b"x-capio-only"
EXCLUDE: Final = b"x-capio-exclude"
FALLBACKS: Final = b"x-capio-fallbacks"
PREFERENCES: Final = frozenset({PREFER, ONLY, EXCLUDE})
"""The headers that choose among deployments."""
_POLICIES: Final = {"cost": "cheapest", "latency": "latency"}
MOST_NAMES: Final = 16
"""Most names in one header."""
LONGEST_VALUE: Final = 1024
_SHOWN: Final = 64


class Preferences(msgspec.Struct, frozen=True):
    """The valid preferences of one client for one model."""

    policy: str | None = None
    """Replaces the model's policy."""
    first: str | None = None
    """The provider or tag whose deployments come first."""
    only: frozenset[str] = frozenset()
    """Providers and tags, one of which a deployment must have; empty: any."""
    exclude: frozenset[str] = frozenset()

    def permits(self, deployment: Deployment) -> bool:
        """Return whether a deployment is permitted."""
        name, tags = deployment.provider.name, deployment.tags
        if self.only and name not in self.only and self.only.isdisjoint(tags):
            return False
        return name not in self.exclude and self.exclude.isdisjoint(tags)


NO_PREFERENCES: Final = Preferences()


def split_names(header: bytes, value: bytes) -> list[str]:
    """
    Return the names in a comma-separated header.

    Raises:
        GatewayError: BAD_REQUEST: too long, or too many.
    """
    names = [name for each in value.split(b",") if (name := each.strip().decode("latin-1"))]
    if len(value) > LONGEST_VALUE or len(names) > MOST_NAMES:
        raise _bad(header, f"is too long: give at most {MOST_NAMES} names")
    return names


def read_preferences(
    values: dict[bytes, bytes], deployments: Iterable[Deployment], *, allowed: bool
) -> Preferences:
    """
    Return the preferences in a client's headers.

    Args:
        values: The headers `PREFER`, `ONLY` and `EXCLUDE` that the client sent.
        deployments: Those of the model.
        allowed: The operator allows preferences.

    Raises:
        GatewayError: BAD_REQUEST: a header that is not allowed, or a name that the model lacks.
    """
    if not allowed:
        raise _bad(next(iter(values)), "is not enabled on this service: remove it")
    providers: dict[str, None] = {}
    tags: dict[str, None] = {}
    for deployment in deployments:
        providers[deployment.provider.name] = None
        tags.update(dict.fromkeys(sorted(deployment.tags)))
    prefer = values.get(PREFER, b"").strip().decode("latin-1")
    if prefer and prefer not in (*_POLICIES, *providers, *tags):
        known = ", ".join((*_POLICIES, *providers, *tags))
        raise _bad(PREFER, f"'{prefer[:_SHOWN]}' is unknown: use one of {known}")
    only, exclude = (
        _known_names(header, values[header], (*providers, *tags))
        if header in values
        else frozenset()
        for header in (ONLY, EXCLUDE)
    )
    return Preferences(
        policy=_POLICIES.get(prefer),
        first=prefer if prefer and prefer not in _POLICIES else None,
        only=only,
        exclude=exclude,
    )


def nothing_left(model: str, preferences: Preferences) -> GatewayError:
    """Return the error for preferences that no deployment meets; it names the headers sent."""
    nothing = f"no deployment of the model '{model}'"
    if not preferences.exclude:
        return _bad(ONLY, f"leaves {nothing}: relax it")
    if not preferences.only:
        return _bad(EXCLUDE, f"leaves {nothing}: relax it")
    return _bad(ONLY, f"and {EXCLUDE.decode()} together leave {nothing}: relax one of them")


def _known_names(header: bytes, value: bytes, known: tuple[str, ...]) -> frozenset[str]:
    names = split_names(header, value)
    for name in names:
        if name not in known:
            listed = ", ".join(known)
            raise _bad(header, f"'{name[:_SHOWN]}' is neither a provider nor a tag: use {listed}")
    return frozenset(names)


def _bad(header: bytes, problem: str) -> GatewayError:
    name = header.decode()
    return GatewayError(ErrorKind.BAD_REQUEST, f"{name} {problem}.", param=name)
