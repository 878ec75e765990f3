"""
Idempotency keys in Redis: one run at a time, one charge, and the answer for who asks again.

A record is one string, by its first byte:
    running  "1", fingerprint (32 bytes), token (16 bytes); lives for the lease
    done     "2", fingerprint (32 bytes), sealed answer or nothing; lives for `ttl_s`
No record means that the key is free. The name is the claim's scope behind the account's hash tag.

Rules.
1. Every change is one script that looks at the first 49 bytes and changes the record only if they
   are what the caller thinks: its own token, or nothing.
2. A worker renews the records of its running calls. One that is killed stops doing so, and its keys
   become free when the lease has run out.
3. An outcome is owed until Redis has said that it has it: it is noted here first, then sent, and
   offered again until an answer comes. A run whose lease ran out meanwhile still gets its outcome
   kept, unless another run has taken the key.
4. A `begin` whose answer never came may have taken the key: freeing it is owed too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from gateway.core.idempotency import NONCE_BYTES, Claim, Hold, StoredResponse
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Idempotency
from gateway.store.redis.client import RedisUnavailable, Reply, ReplyError
from gateway.store.redis.connection import Argument
from gateway.store.redis.scripts import LuaScript, read_script
from gateway.store.redis.shards import hash_tag

_LUA = Path(__file__).parent / "lua"
TOKEN_BYTES = 16
MAX_OWED_BYTES = 64 * 1024 * 1024
"""Outcomes that wait for Redis; beyond it their answers are left out."""
MAX_OWED_FREES = 10_000
"""Keys to free that wait for Redis; beyond it they stay taken until their lease has run out."""

_PART = 200
_PART_BYTES = 1024 * 1024
"""How much of what is owed is offered at once."""
_RUNNING = b"1"
_DONE = b"2"
_FREE = b""
_HEAD_BYTES = 49
_TAKEN = 0
_IN_USE = 1
_OTHER_BODY = 2
_RENEWALS_PER_LEASE = 3
_TICKS_PER_LEASE = 6
_TICK_S = 1.0
_WAIT_S = 1.0
_FOR_OPENING = 2
"""The first `begin`, and a second one over a record that does not open."""

logger = logging.getLogger(__name__)


class ScriptBus(Protocol):
    """What is needed of `store.redis.client.RedisClient`."""

    async def script(
        self, script: LuaScript, keys: Sequence[Argument], args: Sequence[Argument] = ()
    ) -> Reply:
        """Run a script; raises RedisUnavailable or ReplyError."""


def idempotency_scripts() -> list[LuaScript]:
    """Return the scripts, for the bus to load at connect. Reads their files."""
    return [read_script(_LUA, name) for name in ("begin", "end", "renew")]


def _ignore_result(result: str) -> None:
    """Count nothing."""


class _Owed:
    """An outcome that Redis has not confirmed. `until`: when it is given up."""

    __slots__ = ("hold", "record", "sending", "until")

    def __init__(self, hold: Hold, record: bytes, until: float) -> None:
        self.hold = hold
        self.record = record
        self.until = until
        self.sending = False


class IdempotencyRecords:
    """
    `ports.IdempotencyStore` for one worker.

    Args:
        bus: For Redis; give it `idempotency_scripts()` to load at connect.
        settings: The `idempotency` section.
        key_prefix: `redis.key_prefix`.
        count: Called once per `begin` with its result: fresh, replayed, running, completed,
            mismatch or unavailable; and with unreadable when a stored answer did not open.
        clock: Monotonic seconds.
        random_bytes: For tokens and nonces.
    """

    def __init__(
        self,
        bus: ScriptBus,
        settings: Idempotency,
        key_prefix: str,
        *,
        count: Callable[[str], None] = _ignore_result,
        clock: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._bus = bus
        self._settings = settings
        self._key_prefix = key_prefix
        self._count = count
        self._clock = clock
        self._random_bytes = random_bytes
        self._begin, self._end, self._renew = idempotency_scripts()
        self._lease_ms = int(settings.lease_s * 1000)
        self._ttl_ms = int(settings.ttl_s * 1000)
        self._renew_after_s = settings.lease_s / _RENEWALS_PER_LEASE
        self._running: dict[bytes, tuple[Hold, float]] = {}  # in the order of their next renewal
        self._owed: dict[bytes, _Owed] = {}
        self._owed_bytes = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to renew and to offer again, on the running loop."""
        self._task = asyncio.create_task(self._tend(), name="idempotency")

    async def aclose(self) -> None:
        """Offer what is owed once more and stop; what still runs keeps its lease. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._pay_owed()

    # The port.

    async def begin(self, claim: Claim) -> Hold | StoredResponse:
        """
        Return the right to run the call, or the answer of the run that is done.

        Raises:
            GatewayError: CONFLICT, IDEMPOTENCY_COMPLETED, IDEMPOTENCY_MISMATCH, STORE_UNAVAILABLE.
        """
        hold = Hold(claim, self._random_bytes(TOKEN_BYTES))
        overwrite = b""
        for _ in range(_FOR_OPENING):
            reply = await self._ask(hold, overwrite)
            if reply == _TAKEN:
                self._running[hold.token] = hold, self._clock() + self._renew_after_s
                self._count("fresh")
                return hold
            if not isinstance(reply, bytes) or not reply:
                raise self._refusal(reply)
            answer = claim.sealer.unseal(reply, claim)
            if answer is not None:
                self._count("replayed")
                return answer
            self._count("unreadable")
            logger.warning("stored_response_unreadable", extra={"scope": claim.scope.hex()})
            overwrite = (_DONE + claim.fingerprint + reply)[:_HEAD_BYTES]
        raise self._unavailable("the stored answer changes and does not open")

    async def finish(self, hold: Hold, answer: StoredResponse | None) -> None:
        """Keep the outcome of a run that was charged; None, or too long: without an answer."""
        claim = hold.claim
        record = _DONE + claim.fingerprint
        if answer is not None and len(answer.body) <= self._settings.max_response_bytes:
            record += claim.sealer.seal(answer, claim, self._random_bytes(NONCE_BYTES))
        await self._settle(hold, record)

    async def free(self, hold: Hold) -> None:
        """Let the key be used again: the run failed without a charge."""
        await self._settle(hold, _FREE)

    # Asking.

    async def _ask(self, hold: Hold, overwrite: bytes) -> Reply:
        """Run the begin script; whatever prevents its reply, the key is not left taken."""
        try:
            return await self._bus.script(
                self._begin,
                [self._name(hold.claim)],
                (_running_record(hold), self._lease_ms, overwrite),
            )
        except (RedisUnavailable, ReplyError) as error:
            if not isinstance(error, RedisUnavailable) or error.reason in ("timeout", "lost"):
                self._owe_free(hold)
            raise self._unavailable(str(error)) from error
        except asyncio.CancelledError:
            self._owe_free(hold)
            raise

    def _refusal(self, reply: Reply) -> GatewayError:
        if reply == _IN_USE:
            self._count("running")
            return GatewayError(
                ErrorKind.CONFLICT,
                "A request with this Idempotency-Key is still running. Retry when it has ended.",
                retry_after_s=_WAIT_S,
            )
        if reply == _OTHER_BODY:
            self._count("mismatch")
            return GatewayError(
                ErrorKind.IDEMPOTENCY_MISMATCH,
                "This Idempotency-Key was used with another request body. Use a new key.",
            )
        self._count("completed")
        return GatewayError(
            ErrorKind.IDEMPOTENCY_COMPLETED,
            "The request with this Idempotency-Key was charged and its answer cannot be repeated. "
            "To run it once more, use a new key.",
        )

    def _unavailable(self, detail: str) -> GatewayError:
        self._count("unavailable")
        return GatewayError(
            ErrorKind.STORE_UNAVAILABLE,
            "Idempotency-Key cannot be honoured at the moment; nothing was run. Retry shortly.",
            retry_after_s=_WAIT_S,
            detail=detail,
        )

    # Outcomes, until Redis has them.

    async def _settle(self, hold: Hold, record: bytes) -> None:
        self._running.pop(hold.token, None)
        await self._pay(self._owe(hold, record))

    def _owe(self, hold: Hold, record: bytes) -> _Owed:
        settings = self._settings
        owed = _Owed(hold, record, self._clock() + (settings.ttl_s if record else settings.lease_s))
        self._owed[hold.token] = owed
        self._owed_bytes += len(record)
        return owed

    def _owe_free(self, hold: Hold) -> None:
        if len(self._owed) < MAX_OWED_FREES:
            self._owe(hold, _FREE)

    async def _pay(self, owed: _Owed) -> bool:
        """Send an outcome; keep owing it and return False when no reply comes."""
        claim = owed.hold.claim
        owed.sending = True
        try:
            kept = await self._bus.script(
                self._end,
                [self._name(claim), self._bytes_name(claim)],
                (
                    *(_running_record(owed.hold), owed.record),
                    *(self._ttl_ms, self._settings.max_account_bytes),
                ),
            )
        except (RedisUnavailable, ReplyError) as error:
            self._keep_owing(owed, error)
            return False
        finally:
            owed.sending = False
        self._forget(owed)
        if not kept:
            logger.warning("idempotency_claim_superseded", extra={"scope": claim.scope.hex()})
        return True

    def _keep_owing(self, owed: _Owed, error: Exception) -> None:
        if self._owed_bytes > MAX_OWED_BYTES and owed.record:
            spent = _DONE + owed.hold.claim.fingerprint
            self._owed_bytes -= len(owed.record) - len(spent)
            owed.record = spent
        fields = {"reason": str(error), "owed": len(self._owed)}
        logger.debug("idempotency_outcome_deferred", extra=fields)

    def _forget(self, owed: _Owed) -> None:
        if self._owed.pop(owed.hold.token, None) is not None:
            self._owed_bytes -= len(owed.record)

    async def _pay_owed(self) -> None:
        """Offer what is owed, a part at a time so that other commands get through; drop the old."""
        now = self._clock()
        part: list[_Owed] = []
        part_bytes = 0
        for owed in list(self._owed.values()):
            if owed.until <= now:
                self._forget(owed)
            elif not owed.sending:
                part.append(owed)
                part_bytes += len(owed.record)
            if len(part) >= _PART or part_bytes >= _PART_BYTES:
                if not await self._pay_all(part):
                    return
                part.clear()
                part_bytes = 0
        await self._pay_all(part)

    async def _pay_all(self, part: list[_Owed]) -> bool:
        return all(await asyncio.gather(*[self._pay(owed) for owed in part]))

    # Leases.

    async def _tend(self) -> None:
        tick_s = min(_TICK_S, self._settings.lease_s / _TICKS_PER_LEASE)
        while True:
            await asyncio.sleep(tick_s)
            try:
                await asyncio.gather(self._renew_due(), self._pay_owed())
            except Exception:
                logger.exception("idempotency_maintenance_failed")

    async def _renew_due(self) -> None:
        now = self._clock()
        due: list[Hold] = []
        for hold, at in self._running.values():
            if at > now:
                break
            due.append(hold)
        for hold in due:  # to the end of the order
            del self._running[hold.token]
            self._running[hold.token] = hold, now + self._renew_after_s
        await asyncio.gather(*[self._renew_one(hold) for hold in due])

    async def _renew_one(self, hold: Hold) -> None:
        try:
            renewed = await self._bus.script(
                self._renew, [self._name(hold.claim)], (_running_record(hold), self._lease_ms)
            )
        except (RedisUnavailable, ReplyError):
            return  # there are two more renewals in a lease
        if not renewed and self._running.pop(hold.token, None) is not None:
            logger.warning("idempotency_lease_lost", extra={"scope": hold.claim.scope.hex()})

    # Names.

    def _name(self, claim: Claim) -> str:
        return f"{self._key_prefix}{hash_tag(claim.account_id)}idem:{claim.scope.hex()}"

    def _bytes_name(self, claim: Claim) -> str:
        return f"{self._key_prefix}{hash_tag(claim.account_id)}idem-bytes:{claim.account_id}"


def _running_record(hold: Hold) -> bytes:
    return _RUNNING + hold.claim.fingerprint + hold.token
