"""
Keeps the calls of one conversation on the deployment that holds their prompt cache.

Rendezvous hashing: every worker of every pod ranks the deployments in the same way for a
conversation, without shared state. While a deployment is out, only its own conversations move to
others; they move back when it is used again.
"""

from __future__ import annotations

import math
from typing import Final
from zlib import crc32

_MASK: Final = (1 << 32) - 1
_GOLDEN: Final = 0x9E3779B1
SLACK: Final = 2
_OVERLOAD: Final = 1.25
"""A deployment takes conversations up to this multiple of the mean load, plus `SLACK` calls."""


def hash32(text: bytes, start: int = 0) -> int:
    """
    Return a 32-bit hash that is the same on every machine.

    Args:
        text: The bytes to hash.
        start: The hash of the bytes that precede them.
    """
    return crc32(text, start)


def mix(conversation: int, deployment: int) -> int:
    """
    Return the rank of a deployment for a conversation, both given by their hashes; 32 bits.

    The deployment with the highest rank holds the conversation.
    """
    # Two rounds: a single product of two CRCs, which are linear, would keep their patterns.
    mixed = ((conversation ^ deployment) * _GOLDEN) & _MASK
    return ((mixed ^ (mixed >> 15)) * _GOLDEN) & _MASK


def weighted_rank(conversation: int, deployment: int, weight: int) -> float:
    """Return a rank that gives a deployment a share of conversations proportional to `weight`."""
    return -weight / math.log((mix(conversation, deployment) + 1) / (_MASK + 2))


def has_room(in_flight: int, total: int, count: int) -> bool:
    """Return whether a deployment may take one more call, given the load of all equal ones."""
    return in_flight <= _OVERLOAD * total / count + SLACK
