"""
Limits while Redis is away: each worker admits a share of what an account or key may do.

A caller may be served by every worker of every pod at once, so the share should be about one by
their number. Money may be spent up to the same share of what was left when Redis was last heard;
an account that this worker has not seen before is not served.

Where the worst case of an account's running calls is bounded (`lua/reserve.lua`), calls count with
theirs, against the share of the room that Redis last left. So the workers together add at most
workers * share * (the most room that one of them saw) to what the account may owe; and nothing, if
workers * share <= 1 and the account was quiet since.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gateway.core.limits import Bucket, adjust, take
from gateway.store.hot_state.redis_schema import ACCOUNT_SCOPE, Row

_ACCOUNTS = 50_000
_decode_row = msgspec.msgpack.Decoder(list[str | int]).decode


class LastSeen(NamedTuple):
    """What Redis last said of an account, amounts in nano-dollars."""

    available: int | None
    """None: without end."""
    limits: bytes
    """Its row packed; empty: no limits."""
    room: int | None
    """What further calls may cost at most; None: not bounded."""


class _Scope:
    """What was admitted of one scope here since Redis went away."""

    __slots__ = ("requests", "running", "tokens")

    def __init__(self) -> None:
        self.running = 0
        self.requests = Bucket()
        self.tokens = Bucket()


class _Admitted(msgspec.Struct, frozen=True):
    """One call admitted here."""

    account_id: str
    hold_nanousd: int
    worst_nanousd: int
    tokens: int
    rows: tuple[Row, ...]


class FallbackLimiter:
    """
    Admits by a share of the limits.

    Args:
        share: Above 0, at most 1. Of any limit at least one request is admitted.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._seen: OrderedDict[str, LastSeen] = OrderedDict()
        self._scopes: dict[str, _Scope] = {}
        self._spent: dict[str, int] = {}
        self._exposed: dict[str, int] = {}
        self._admitted: dict[str, _Admitted] = {}

    def saw(self, account_id: str, seen: LastSeen) -> None:
        """Remember what Redis says."""
        if account_id not in self._seen and len(self._seen) >= _ACCOUNTS:
            self._seen.popitem(last=False)
        self._seen[account_id] = seen

    def saw_available(self, account_id: str, available_nanousd: int) -> None:
        """Remember what Redis says of the credit of an account that is known here."""
        seen = self._seen.get(account_id)
        if seen is not None:
            self._seen[account_id] = seen._replace(available=available_nanousd)

    def last_seen(self, account_id: str) -> LastSeen | None:
        """Return what Redis last said; None: nothing, or it is forgotten."""
        return self._seen.get(account_id)

    def room(self, account_id: str) -> int | None:
        """Return the room that Redis last left an account; 0: it was not seen, None: unbounded."""
        seen = self._seen.get(account_id)
        return 0 if seen is None else seen.room

    def admit(
        self,
        request_id: str,
        account_id: str,
        rows: Sequence[Row],
        *,
        hold_nanousd: int,
        worst_nanousd: int,
        tokens: int,
        now_ms: int,
    ) -> bool:
        """
        Return whether a call may start; if so it counts until `end`.

        Args:
            request_id: The call's.
            account_id: Whose.
            rows: The limits of its key, see `hot_state.key_rows`.
            hold_nanousd: What it is expected to cost.
            worst_nanousd: What it can cost at most.
            tokens: What it may use.
            now_ms: Monotonic milliseconds.
        """
        seen = self._seen.get(account_id)
        if seen is None or not self._affords(account_id, seen, rows, hold_nanousd):
            return False
        exposed = self._exposed.get(account_id, 0) + worst_nanousd
        if seen.room is not None and worst_nanousd and exposed > seen.room * self._share:
            return False
        of_account = [_decode_row(seen.limits)] if seen.limits else []
        shares = [self._shared(account_id, row) for row in (*of_account, *rows)]
        poured: list[tuple[_Scope, Bucket, Bucket]] = []
        for row in shares:
            scope = self._scopes.setdefault(str(row[0]), _Scope())
            requests = _pour(scope.requests, row[1], 1, now_ms)
            minute = _pour(scope.tokens, row[2], tokens, now_ms)
            full = _number(row[3]) >= 0 and scope.running >= _number(row[3])
            if full or requests is None or minute is None:
                return False
            poured.append((scope, requests, minute))
        for scope, requests, minute in poured:
            scope.running += 1
            scope.requests, scope.tokens = requests, minute
        self._spent[account_id] = self._spent.get(account_id, 0) + hold_nanousd
        self._exposed[account_id] = exposed
        self._admitted[request_id] = _Admitted(
            account_id, hold_nanousd, worst_nanousd, tokens, tuple(shares)
        )
        return True

    def end(self, request_id: str, *, cost_nanousd: int, tokens: int, now_ms: int) -> None:
        """Count what a call admitted here has cost in the place of what it might. Idempotent."""
        call = self._admitted.pop(request_id, None)
        if call is None:
            return
        if call.account_id in self._spent:
            self._spent[call.account_id] += cost_nanousd - call.hold_nanousd
            self._exposed[call.account_id] += cost_nanousd - call.worst_nanousd
        for row in call.rows:
            scope = self._scopes.get(str(row[0]))
            if scope is None:
                continue
            scope.running = max(0, scope.running - 1)
            limit = _number(row[2])
            if limit > 0:
                surplus = tokens - min(call.tokens, limit)
                scope.tokens = adjust(scope.tokens, limit, surplus, now_ms)

    def forget(self) -> None:
        """Redis is back: begin anew at its next absence."""
        if self._scopes or self._spent:
            self._scopes.clear()
            self._spent.clear()
            self._exposed.clear()

    def _affords(
        self, account_id: str, seen: LastSeen, rows: Sequence[Row], hold_nanousd: int
    ) -> bool:
        available, limits = seen.available, seen.limits
        caps = [_number(cap) for row in rows for cap in row[4:] if _number(cap) >= 0]
        if limits:
            caps += [_number(cap) for cap in _decode_row(limits)[4:] if _number(cap) >= 0]
        if available is not None:
            caps.append(available)
        if not caps or hold_nanousd == 0:
            return True
        spent = self._spent.get(account_id, 0)
        return spent + hold_nanousd <= int(min(caps) * self._share)

    def _shared(self, account_id: str, row: Row) -> Row:
        """Return a row's rates as this worker's share; the account's scope gets a name."""
        name = f"a{account_id}" if row[0] == ACCOUNT_SCOPE else str(row[0])
        return [name, *[self._part(limit) for limit in row[1:4]]]

    def _part(self, limit: str | int) -> int:
        number = _number(limit)
        return number if number < 0 else max(1, int(number * self._share))


def _pour(bucket: Bucket, limit: str | int, amount: int, now_ms: int) -> Bucket | None:
    """Return the bucket with `amount` in it, as it is without a limit; None: there is no room."""
    number = _number(limit)
    if number < 0:
        return bucket
    poured = take(bucket, number, amount, now_ms)
    return None if isinstance(poured, int) else poured


def _number(limit: str | int) -> int:
    assert isinstance(limit, int)
    return limit
