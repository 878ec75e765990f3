"""
A rate a minute, exactly: GCRA in its leaky bucket form, on integers.

A bucket of capacity `limit` leaks `limit` a minute. What is in it is counted in sixty-thousandths
of a request or token, of which `limit` leak in a millisecond: no fraction is ever rounded, whatever
the limit, so that a model in Python, a script in Lua and a test agree to the last request.

A caller who was silent may send `limit` at once, and from then on `limit` a minute.
Source: ITU-T I.371, the continuous-state leaky bucket form of the generic cell rate algorithm.
"""

from __future__ import annotations

import msgspec

PER_MINUTE_MS = 60_000


class Bucket(msgspec.Struct, frozen=True):
    """What is in a bucket: `level` sixty-thousandths, as of `at_ms`."""

    level: int = 0
    at_ms: int = 0


def leaked(bucket: Bucket, limit: int, now_ms: int) -> Bucket:
    """Return the bucket at a later time; a clock that went backwards lets nothing leak."""
    passed_ms = max(0, now_ms - bucket.at_ms)
    return Bucket(max(0, bucket.level - passed_ms * limit), max(bucket.at_ms, now_ms))


def take(bucket: Bucket, limit: int, amount: int, now_ms: int) -> Bucket | int:
    """
    Put `amount` into the bucket if there is room.

    More than `limit` never fits: it counts as `limit` here, and `adjust` adds the rest once it is
    known to have been used.

    Returns:
        The new bucket; or after how many milliseconds there will be room, at least 1.
    """
    bucket = leaked(bucket, limit, now_ms)
    level = bucket.level + min(amount, limit) * PER_MINUTE_MS
    excess = level - limit * PER_MINUTE_MS
    if excess > 0:
        return -(-excess // limit)
    return Bucket(level, bucket.at_ms)


def adjust(bucket: Bucket, limit: int, amount: int, now_ms: int) -> Bucket:
    """
    Add what was used beyond what was taken; a negative amount gives back what was not used.

    The level may rise above the capacity, never fall below empty.
    """
    bucket = leaked(bucket, limit, now_ms)
    return Bucket(max(0, bucket.level + amount * PER_MINUTE_MS), bucket.at_ms)


def remaining(bucket: Bucket, limit: int) -> int:
    """Return how many whole requests or tokens there is room for, 0 when overfull."""
    return max(0, limit * PER_MINUTE_MS - bucket.level) // PER_MINUTE_MS
