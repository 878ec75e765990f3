"""Rotates the credentials of one provider: when the current one rests, the next is used."""

from __future__ import annotations

from typing import Final

from gateway.core.routing.failures import FailureClass

REST_S: Final = {
    FailureClass.CREDENTIAL: 300.0,
    FailureClass.QUOTA: 300.0,
    FailureClass.RATE_LIMIT: 10.0,
}
"""How long a credential rests after a failure without `retry-after`."""
LONGEST_REST_S: Final = 600.0
"""The default bound of a rest, of credentials and of deployments, whatever `retry-after` says."""


class CredentialRotation:
    """
    The state of a provider's credentials.

    The current one is used as long as it works: upstreams keep prompt caches per account.

    Args:
        count: Number of credentials, at least 1.
        longest_rest_s: Bound of what an upstream may demand.
    """

    __slots__ = ("_current", "_rests_until", "count", "longest_rest_s")

    def __init__(self, count: int, longest_rest_s: float = LONGEST_REST_S) -> None:
        self.count = count
        self.longest_rest_s = longest_rest_s
        self._current = 0
        self._rests_until = [0.0] * count

    def pick(self, now: float) -> int:
        """Return the index of the credential to use; if all rest, the one whose rest ends first."""
        rests = self._rests_until
        if rests[self._current] <= now:
            return self._current
        for step in range(1, self.count):
            index = (self._current + step) % self.count
            if rests[index] <= now:
                self._current = index
                return index
        return min(range(self.count), key=rests.__getitem__)

    def rest(
        self, index: int, failure: FailureClass, retry_after_s: float | None, now: float
    ) -> bool:
        """Let a credential rest after a failure; return whether another one is ready."""
        if retry_after_s is None:
            seconds = REST_S.get(failure, 0.0)
        else:
            seconds = min(retry_after_s, self.longest_rest_s)
        self._rests_until[index] = max(self._rests_until[index], now + seconds)
        return any(until <= now for until in self._rests_until)

    def restore(self, index: int) -> None:
        """End the rest of a credential that has worked."""
        self._rests_until[index] = 0.0
