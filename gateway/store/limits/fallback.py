"""
Limits while Redis is unavailable: each worker admits a share of each limit.

A client may be served by every worker of every pod at once, so the share is 1 / their number when
Redis last responded, see `census`, and at most `money.degraded_share`. Money may be spent up to the
same share of what was available at the last reply of Redis; calls of accounts that this worker has
not seen are refused. In a cluster, a lost master concerns its shards only, so the counts of a shard
end with its first call that Redis admits.

If the worst case of an account's running calls is bounded (`lua/reserve.lua`), calls count with
their worst case against the share of the last known room. So the workers together add at most
workers * share * (the most room that one of them saw) to the account's debt, at most once that
room, and nothing if the account was idle since.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from gateway.core.limits import Bucket, adjust, take
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import Reservation
from gateway.store.hot_state.redis_schema import ACCOUNT_SCOPE, LimitRow
from gateway.store.redis.shards import shard_of

_ACCOUNTS = 50_000
_decode_row = msgspec.msgpack.Decoder(LimitRow).decode


class LastSeen(NamedTuple):
    """What Redis last reported of an account, amounts in nano-dollars."""

    available: int | None
    """None: unlimited."""
    limits: bytes
    """Its `LimitRow` packed; empty: no limits."""
    room: int | None
    """What further calls may cost at most; None: not bounded."""


class _Scope:
    """What this worker admitted of one scope since Redis became unavailable."""

    __slots__ = ("requests", "running", "tokens")

    def __init__(self) -> None:
        self.running = 0
        self.requests = Bucket()
        self.tokens = Bucket()


class _Counts:
    """What this worker admitted of the accounts of one shard."""

    __slots__ = ("exposed", "scopes", "spent")

    def __init__(self) -> None:
        self.scopes: dict[str, _Scope] = {}
        self.spent: dict[str, int] = {}
        self.exposed: dict[str, int] = {}


class _Share(NamedTuple):
    """This worker's share of the rates of a scope; -1: no limit."""

    scope: str
    rpm: int
    tpm: int
    concurrency: int


class _Admitted(msgspec.Struct, frozen=True):
    """One call admitted by this worker."""

    account_id: str
    hold_nanousd: int
    worst_nanousd: int
    tokens: int
    shares: tuple[_Share, ...]


class FallbackLimiter:
    """
    Counts calls against this worker's share of the limits.

    Args:
        most: The largest share, above 0, at most 1. Every limit admits at least one request.
        workers: Returns how many share the limits; 0: unknown.
    """

    def __init__(self, most: float, workers: Callable[[], int]) -> None:
        self._most = most
        self._workers = workers
        self._seen: OrderedDict[str, LastSeen] = OrderedDict()
        self._shards: dict[int, _Counts] = {}
        self._admitted: dict[str, _Admitted] = {}

    def saw(self, account_id: str, seen: LastSeen) -> None:
        """Store what Redis reports of an account."""
        if account_id not in self._seen and len(self._seen) >= _ACCOUNTS:
            self._seen.popitem(last=False)
        self._seen[account_id] = seen

    def saw_available(self, account_id: str, available_nanousd: int) -> None:
        """Store the available credit of an account that was seen before."""
        seen = self._seen.get(account_id)
        if seen is not None:
            self._seen[account_id] = seen._replace(available=available_nanousd)

    def last_seen(self, account_id: str) -> LastSeen | None:
        """Return what Redis last reported; None: the account was not seen."""
        return self._seen.get(account_id)

    def room(self, account_id: str) -> int | None:
        """Return an account's last known room; 0: not seen, None: unbounded."""
        seen = self._seen.get(account_id)
        return 0 if seen is None else seen.room

    def admit(
        self,
        request_id: str,
        account_id: str,
        rows: Sequence[LimitRow],
        *,
        hold_nanousd: int,
        worst_nanousd: int,
        tokens: int,
        now_ms: int,
    ) -> bool:
        """
        Return whether a call is admitted; if so it counts until `end`.

        Args:
            request_id: The call's id.
            account_id: Its account.
            rows: The limits of its key, see `redis_schema.key_rows`.
            hold_nanousd: Its expected cost.
            worst_nanousd: The most it can cost.
            tokens: The tokens it may use.
            now_ms: Monotonic milliseconds.
        """
        seen = self._seen.get(account_id)
        if seen is None or not self._affords(account_id, seen, rows, hold_nanousd):
            return False
        counts = self._shards.get(shard_of(account_id))
        if counts is None:
            counts = self._shards[shard_of(account_id)] = _Counts()
        exposed = counts.exposed.get(account_id, 0) + worst_nanousd
        if seen.room is not None and worst_nanousd and exposed > self._part_of(seen.room):
            return False
        of_account = [_decode_row(seen.limits)] if seen.limits else []
        shares = [self._shared(account_id, row) for row in (*of_account, *rows)]
        poured: list[tuple[_Scope, Bucket, Bucket]] = []
        for share in shares:
            scope = counts.scopes.setdefault(share.scope, _Scope())
            requests = _pour(scope.requests, share.rpm, 1, now_ms)
            minute = _pour(scope.tokens, share.tpm, tokens, now_ms)
            full = 0 <= share.concurrency <= scope.running
            if full or requests is None or minute is None:
                return False
            poured.append((scope, requests, minute))
        for scope, requests, minute in poured:
            scope.running += 1
            scope.requests, scope.tokens = requests, minute
        counts.spent[account_id] = counts.spent.get(account_id, 0) + hold_nanousd
        counts.exposed[account_id] = exposed
        self._admitted[request_id] = _Admitted(
            account_id, hold_nanousd, worst_nanousd, tokens, tuple(shares)
        )
        return True

    def end(self, request_id: str, *, cost_nanousd: int, tokens: int, now_ms: int) -> None:
        """Replace what an admitted call holds by its cost. Idempotent."""
        call = self._admitted.pop(request_id, None)
        counts = None if call is None else self._shards.get(shard_of(call.account_id))
        if call is None or counts is None:
            return
        if call.account_id in counts.spent:
            counts.spent[call.account_id] += cost_nanousd - call.hold_nanousd
            counts.exposed[call.account_id] += cost_nanousd - call.worst_nanousd
        for share in call.shares:
            scope = counts.scopes.get(share.scope)
            if scope is None:
                continue
            scope.running = max(0, scope.running - 1)
            if share.tpm > 0:
                surplus = tokens - min(call.tokens, share.tpm)
                scope.tokens = adjust(scope.tokens, share.tpm, surplus, now_ms)

    def forget(self, account_id: str) -> None:
        """Reset the counts of an account's shard: its Redis is back."""
        if self._shards:
            self._shards.pop(shard_of(account_id), None)

    def _affords(
        self, account_id: str, seen: LastSeen, rows: Sequence[LimitRow], hold_nanousd: int
    ) -> bool:
        of_account = [_decode_row(seen.limits)] if seen.limits else []
        caps = [
            budget
            for row in (*rows, *of_account)
            for budget in (row.budget_day, row.budget_month, row.budget_total)
            if budget >= 0
        ]
        if seen.available is not None:
            caps.append(seen.available)
        if not caps or hold_nanousd == 0:
            return True
        counts = self._shards.get(shard_of(account_id))
        spent = 0 if counts is None else counts.spent.get(account_id, 0)
        return spent + hold_nanousd <= self._part_of(min(caps))

    def _shared(self, account_id: str, row: LimitRow) -> _Share:
        # The scope of an account has no name of its own.
        scope = f"a{account_id}" if row.scope == ACCOUNT_SCOPE else row.scope
        return _Share(scope, self._part(row.rpm), self._part(row.tpm), self._part(row.concurrency))

    def _part(self, limit: int) -> int:
        return limit if limit < 0 else max(1, self._part_of(limit))

    def _part_of(self, amount: int) -> int:
        # Divided, not multiplied by 1 / n, whose rounding would lose one.
        return min(int(amount * self._most), amount // max(1, self._workers()))


class FallbackAdmitter:
    """
    `admitter.Admitter` without Redis.

    Args:
        limiter: Counts the admitted calls.
        enabled: False refuses every call.
        count: Called with the result of each admission.
    """

    def __init__(
        self, limiter: FallbackLimiter, *, enabled: bool, count: Callable[[str], None]
    ) -> None:
        self._limiter = limiter
        self._enabled = enabled
        self._count = count

    async def admit(
        self,
        reservation: Reservation,
        rows: Sequence[LimitRow],
        packed: bytes,  # noqa: ARG002 -- for the script
    ) -> None:
        """Admit by this worker's share of the limits, or raise STORE_UNAVAILABLE."""
        request = reservation.request
        account_id = request.principal.account_id
        if self._enabled and self._limiter.admit(
            request.request_id,
            account_id,
            rows,
            hold_nanousd=reservation.hold_nanousd,
            worst_nanousd=reservation.worst_nanousd,
            tokens=reservation.tokens,
            now_ms=monotonic_ms(),
        ):
            reservation.degraded = True
            if self._limiter.room(account_id) is None:
                reservation.worst_nanousd = reservation.hold_nanousd
            self._count("degraded")
            return
        self._count("unavailable")
        raise GatewayError(
            ErrorKind.STORE_UNAVAILABLE,
            "Limits and credit cannot be checked at the moment. Retry shortly.",
            retry_after_s=1.0,
        )


def monotonic_ms() -> int:
    """Return the time of the limiter's buckets."""
    return time.monotonic_ns() // 1_000_000


def _pour(bucket: Bucket, limit: int, amount: int, now_ms: int) -> Bucket | None:
    """Return the bucket with `amount` added, unchanged without a limit; None: it is full."""
    if limit < 0:
        return bucket
    poured = take(bucket, limit, amount, now_ms)
    return None if isinstance(poured, int) else poured
