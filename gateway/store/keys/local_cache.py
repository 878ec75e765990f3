"""
A worker's in-memory cache of keys: bounded, short-lived, and valid only while the worker receives
changes.

Validity. A `Proof` holds the time until which the worker has certainly received every change: each
reply to the subscription's PING extends it to a fixed time after that PING was *sent*. Messages
published before the PING arrive before its reply, so a change takes effect within that time even if
the connection is dead without notice, or the loop was blocked with the message unread. Without
proof an entry is valid for `UNPROVEN_S` only, counted from before its look-up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from gateway.core.model import Principal

UNPROVEN_S = 0.5
"""How long an entry is valid without proof: it saves one SQL query per request and key while Redis
is unavailable, and a revocation still takes effect within one second."""

PROOF_S = 0.9


class Proof:
    """Until when every change has certainly been received; shared by the caches of a worker."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = 0.0

    def extend(self, since: float) -> None:
        """Everything published before `since` has been received."""
        self.until = since + PROOF_S

    def withdraw(self) -> None:
        """Changes may be missed from now on."""
        self.until = 0.0


class LocalKeyEntry:
    """One cached result. `principal` is None if there is no such key."""

    __slots__ = ("expires_at", "principal", "unproven_until")

    def __init__(
        self, principal: Principal | None, unproven_until: float, expires_at: float
    ) -> None:
        self.principal = principal
        self.unproven_until = unproven_until
        self.expires_at = expires_at


class LocalKeyCache:
    """
    A bounded LRU map from digest to look-up result.

    Args:
        entries: Its capacity.
        ttl_s: The longest lifetime of an entry, with proof.
        proof: See the module.
        clock: Monotonic seconds.
    """

    __slots__ = ("_clock", "_entries", "_limit", "_proof", "_ttl_s")

    def __init__(
        self, entries: int, ttl_s: float, proof: Proof, clock: Callable[[], float]
    ) -> None:
        self._entries: OrderedDict[bytes, LocalKeyEntry] = OrderedDict()
        self._limit = entries
        self._ttl_s = ttl_s
        self._proof = proof
        self._clock = clock

    @property
    def full(self) -> bool:
        """Whether a new entry evicts one that has not expired."""
        if len(self._entries) < self._limit:
            return False
        oldest = next(iter(self._entries.values()))
        return self._clock() < oldest.expires_at

    def find(self, digest: bytes) -> LocalKeyEntry | None:
        """Return the entry if it is valid. Hot: a look-up and two comparisons."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        now = self._clock()
        if now < entry.unproven_until or (now < self._proof.until and now < entry.expires_at):
            self._entries.move_to_end(digest)
            return entry
        return None

    def keep(
        self, digest: bytes, principal: Principal | None, since: float, *, certain: bool
    ) -> None:
        """
        Add a result; evict the least recently used one if full.

        Args:
            since: When its look-up began, by the clock.
            certain: No gap in the subscription since then; otherwise the entry is valid for
                `UNPROVEN_S`.
        """
        unproven_until = since + min(UNPROVEN_S, self._ttl_s)
        expires_at = since + self._ttl_s if certain else unproven_until
        self._entries[digest] = LocalKeyEntry(principal, unproven_until, expires_at)
        self._entries.move_to_end(digest)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def version(self, digest: bytes) -> int:
        """Return the cached version, expired or not; 0 if none is cached."""
        entry = self._entries.get(digest)
        return 0 if entry is None or entry.principal is None else entry.principal.version

    def drop(self, digest: bytes, older_than: int) -> None:
        """Evict a key unless it is cached with this version or a newer one."""
        entry = self._entries.get(digest)
        if entry is not None and (entry.principal is None or entry.principal.version < older_than):
            del self._entries[digest]

    def clear(self) -> None:
        """Evict all keys."""
        self._entries.clear()
