"""
What a worker remembers of keys in its own memory: bounded, short-lived, and only while it would
hear of changes.

The rule of validity. A `Proof` says until when the worker may rely on being told of every change:
it is extended each time the subscription's PING comes back, to a fixed time after that PING was
*sent*. What was published before the PING has arrived before its answer, so a change is honoured
within that time even if the connection is silently dead, or the loop was held up with the message
unread. Without proof an entry serves for `UNPROVEN_S` only, counted from before it was asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from gateway.core.model import Principal

UNPROVEN_S = 0.5
"""How long an entry serves without proof: it spares SQL one query per request and key while Redis
is away, and still keeps the promise that a revocation takes effect within one second."""

PROOF_S = 0.9


class Proof:
    """Until when being told of every change is certain. Shared by the caches of a worker."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = 0.0

    def extend(self, since: float) -> None:
        """Note that everything published before `since` has been heard."""
        self.until = since + PROOF_S

    def withdraw(self) -> None:
        """Note that changes may go unheard from now on."""
        self.until = 0.0


class LocalKeyEntry:
    """One remembered answer. `principal` is None when there is no such key."""

    __slots__ = ("expires_at", "principal", "unproven_until")

    def __init__(
        self, principal: Principal | None, unproven_until: float, expires_at: float
    ) -> None:
        self.principal = principal
        self.unproven_until = unproven_until
        self.expires_at = expires_at


class LocalKeyCache:
    """
    A bounded map from digest to answer; the least recently used goes first.

    Args:
        entries: How many it holds.
        ttl_s: How long an entry serves, proof or not.
        proof: See above.
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
        """Whether a new entry pushes out one that has not expired."""
        if len(self._entries) < self._limit:
            return False
        oldest = next(iter(self._entries.values()))
        return self._clock() < oldest.expires_at

    def find(self, digest: bytes) -> LocalKeyEntry | None:
        """Return the entry if it may still be relied on. Hot: a look-up and two comparisons."""
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
        Remember an answer; if there is no room, the least recently used one goes.

        Args:
            since: When it was asked for, by the clock.
            certain: Every change since then would have been heard; else it serves shortly.
        """
        unproven_until = since + min(UNPROVEN_S, self._ttl_s)
        expires_at = since + self._ttl_s if certain else unproven_until
        self._entries[digest] = LocalKeyEntry(principal, unproven_until, expires_at)
        self._entries.move_to_end(digest)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def version(self, digest: bytes) -> int:
        """Return the newest version heard of, expired or not; 0 when none is remembered."""
        entry = self._entries.get(digest)
        return 0 if entry is None or entry.principal is None else entry.principal.version

    def drop(self, digest: bytes, older_than: int) -> None:
        """Forget the answer for a key unless it has this version or a newer one."""
        entry = self._entries.get(digest)
        if entry is not None and (entry.principal is None or entry.principal.version < older_than):
            del self._entries[digest]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
