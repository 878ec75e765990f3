"""How the end of a response's body is determined."""

from __future__ import annotations

import enum

import msgspec


class Framing(enum.Enum):
    """How the end of a body is determined."""

    NONE = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()


class BodyPlan(msgspec.Struct, frozen=True):
    """What follows a response head."""

    framing: Framing
    length: int
    """Bytes, with `Framing.LENGTH`; else 0."""
    keep_alive: bool
    """The connection may serve another request once the body is complete."""
    idle_hint_s: float | None
    """The idle time that the upstream announced (`keep-alive: timeout=`)."""
