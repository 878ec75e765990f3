"""
Keeps the calls of one conversation on the deployment that holds their prompt cache.

Rendezvous hashing: every worker of every pod ranks the deployments in the same way for a
conversation, without shared state. A deployment that is out loses only its own conversations, and
they return with it.
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
    Return 32 bits of a hash that is the same on every machine.

    Args:
        text: What is hashed.
        start: The hash of what comes before it.
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
    """Return a rank by which each deployment holds a share of the conversations by its weight."""
    return -weight / math.log((mix(conversation, deployment) + 1) / (_MASK + 2))


def has_room(in_flight: int, total: int, count: int) -> bool:
    """Return whether a deployment may take one more call, given the load of all equal ones."""
    return in_flight <= _OVERLOAD * total / count + SLACK
