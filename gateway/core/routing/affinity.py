"""
Keeps the calls of one conversation on the deployment that holds their prompt cache.

Rendezvous hashing: every worker of every pod ranks the deployments in the same way for a
conversation, without shared state. A deployment that is out loses only its own conversations, and
they return with it.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Final

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_SLACK: Final = 2
_OVERLOAD: Final = 1.25
"""A deployment takes conversations up to this multiple of the mean load, plus `_SLACK` calls."""


def hash64(text: bytes) -> int:
    """Return 64 bits of a hash that is the same on every machine."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def rank(conversation: int, deployment: int, weight: int = 1) -> float:
    """
    Return the rank of a deployment for a conversation, both given by their hashes.

    The deployment with the highest rank holds the conversation; of many conversations each
    deployment holds a share by its weight.
    """
    mixed = ((conversation ^ deployment) * _GOLDEN) & _MASK
    mixed ^= mixed >> 32
    mixed = (mixed * _GOLDEN) & _MASK
    mixed ^= mixed >> 29
    return -weight / math.log((mixed + 1) / (_MASK + 2))


def has_room(in_flight: int, total: int, count: int) -> bool:
    """Return whether a deployment may take one more call, given the load of all equal ones."""
    return in_flight <= _OVERLOAD * total / count + _SLACK
