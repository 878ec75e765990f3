"""
Renews the leases of one worker's running calls every few seconds, in batches.

A renewal extends the call's lease and stores its cost so far as a checkpoint, which is charged if
this worker dies. The hold of a call that nears it is raised, whether or not the account can afford
it: a stream is never cut off for lack of credit, but further calls are refused meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from gateway.core.model import CallRecord
from gateway.core.money import MAX_AMOUNT_NANOUSD
from gateway.core.pricing import token_count
from gateway.ports import Reservation, ReservationRequest
from gateway.store.hot_state.redis_schema import (
    ACCOUNT_SCOPE,
    LimitRow,
    RedisKeys,
    account_scripts,
    pack,
)
from gateway.store.redis.batches import TRANSIENT
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import Argument, ReplyError
from gateway.store.usage.settlements import MOST_TOKENS

BATCH = 100
"""Calls per script: 2 ms of Redis."""
NEAR = 0.8
"""The share of the hold beyond which it is raised."""
GROWTH = 1.5
_encode = msgspec.json.Encoder().encode
logger = logging.getLogger(__name__)

Scopes: TypeAlias = tuple[tuple[str, int, int], ...]
"""A call's scopes as the scripts record them: name, tokens taken, tokens a minute."""


class _Renewal(NamedTuple):
    """A call to renew: its account's key and its record in Redis."""

    request_id: str
    account: bytes
    record: bytes


class LeaseRenewer:
    """
    Renews the leases of one worker.

    Args:
        bus: Redis.
        key_prefix: `redis.key_prefix`.
        lease_s: See `money.lease_s`.
        observe_epoch: Called with a shard and its epoch, see `UsageStream.observe_epoch`.
        now_ms: Unix milliseconds for the scripts; None: the server's clock.
    """

    def __init__(
        self,
        bus: RedisBus,
        key_prefix: str,
        *,
        lease_s: float,
        observe_epoch: Callable[[int, object], None],
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._bus = bus
        self._names = RedisKeys(key_prefix)
        self._script = account_scripts().renew
        self._lease_ms = int(lease_s * 1000)
        self._observe_epoch = observe_epoch
        self._now_ms = now_ms
        self._calls: dict[str, tuple[Reservation, Scopes]] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, reservation: Reservation, scopes: Scopes) -> None:
        """Renew a call from now on; `scopes` restore it if Redis lost it, see `scopes_of`."""
        self._calls[reservation.request.request_id] = (reservation, scopes)

    def discard(self, request_id: str) -> None:
        """Stop renewing a call. Idempotent."""
        self._calls.pop(request_id, None)

    def start(self, every_s: float) -> None:
        self._task = asyncio.create_task(self._renew_forever(every_s), name="renew-calls")

    async def aclose(self) -> None:
        """Stop renewing. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def renew(self) -> None:
        """
        Renew every call once.

        Raises:
            RedisUnavailable, ReplyError: Redis is unavailable; leases that expire meanwhile are
                restored once it is back.
        """
        by_shard: dict[int, list[_Renewal]] = {}
        at_ms = time.time_ns() // 1_000_000
        for request_id, (reservation, scopes) in list(self._calls.items()):
            names = self._names.of(reservation.request.principal.account_id)
            try:
                record = _record(reservation, scopes, at_ms)
            except Exception:  # must not prevent the renewal of other calls
                logger.exception("call_renewal_failed", extra={"request_id": request_id})
                continue
            account = names.accounts + reservation.request.principal.account_id.encode()
            by_shard.setdefault(names.shard, []).append(_Renewal(request_id, account, record))
        failure: RedisUnavailable | ReplyError | None = None
        for shard, items in by_shard.items():
            for start in range(0, len(items), BATCH):
                try:
                    await self._send_apart(shard, items[start : start + BATCH])
                except (RedisUnavailable, ReplyError) as error:
                    failure = error  # other shards may be on other masters of a cluster
        if failure is not None:
            raise failure

    async def _send_apart(self, shard: int, items: list[_Renewal]) -> None:
        """Send a batch, or its calls one by one if Redis rejects one of them."""
        try:
            await self._send(shard, items)
        except ReplyError as error:
            if error.code in TRANSIENT:
                raise
            if len(items) == 1:
                fields = {"request_id": items[0].request_id, "code": error.code}
                logger.error("call_renewal_failed", extra=fields)  # noqa: TRY400 -- says enough
                return
            for item in items:
                await self._send_apart(shard, [item])

    async def _send(self, shard: int, items: list[_Renewal]) -> None:
        # A call may have ended while earlier batches were sent.
        left = [item for item in items if item.request_id in self._calls]
        if not left:
            return
        names = self._names.shards[shard]
        now = b"" if self._now_ms is None else self._now_ms()
        arguments: list[Argument] = [now, self._lease_ms, names.accounts]
        for item in left:
            arguments += (item.request_id, item.record)
        accounts = dict.fromkeys(item.account for item in left)
        reply = await self._bus.script(
            self._script, (names.calls, names.leases, *accounts), arguments
        )
        assert isinstance(reply, list)
        self._observe_epoch(shard, reply[1])
        if reply[0]:
            logger.info("running_calls_restored", extra={"shard": shard, "calls": reply[0]})

    async def _renew_forever(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.renew()
            except (RedisUnavailable, ReplyError):
                pass  # logged by the client
            except Exception:  # the root of a task: the next round tries again
                logger.exception("lease_renewal_failed")


def scopes_of(rows: Sequence[LimitRow]) -> Scopes:
    """Return the scopes of a call whose key has the limits `rows`."""
    of_key = ((row.scope, 0, max(0, row.tpm)) for row in rows)
    return ((ACCOUNT_SCOPE, 0, 0), *of_key)


def _record(reservation: Reservation, scopes: Scopes, at_ms: int) -> bytes:
    """Return a call's record with its checkpoint; raise its hold if the cost nears it."""
    event = _checkpoint(reservation.request, at_ms)
    if event.cost_nanousd > MAX_AMOUNT_NANOUSD:  # the scripts cannot count it exactly
        logger.error("checkpoint_refused", extra={"request_id": event.request_id})
        event = draft_record(reservation.request, at_ms)
    cost = event.cost_nanousd
    if cost > reservation.hold_nanousd * NEAR:
        grown = int(cost * GROWTH)
        worst = reservation.worst_nanousd
        # The cost exceeds the worst case only if the upstream ignored its limits.
        reservation.hold_nanousd = min(grown, worst) if cost <= worst else grown
        reservation.worst_nanousd = max(worst, reservation.hold_nanousd)
    return pack(
        (
            event.account_id,
            event.key_id,
            event.model,
            reservation.hold_nanousd,
            scopes,
            _encode(event).decode(),
            str(cost),
            at_ms,
            min(token_count(event.usage), MOST_TOKENS),
            reservation.worst_nanousd,
        )
    )


def _checkpoint(request: ReservationRequest, at_ms: int) -> CallRecord:
    return (
        draft_record(request, at_ms)
        if request.checkpoint is None
        else request.checkpoint().abandoned(at_ms)
    )


def draft_record(request: ReservationRequest, at_ms: int) -> CallRecord:
    """Return the record of an abandoned call without a checkpoint: nothing is charged."""
    principal = request.principal
    return CallRecord(
        request_id=request.request_id,
        at_ms=at_ms,
        key_id=principal.key_id,
        account_id=principal.account_id,
        model=request.model.name,
        endpoint=request.endpoint.value,
        client_wire=request.client_wire.value,
        stream=request.stream,
        attempts=0,
    ).abandoned(at_ms)
