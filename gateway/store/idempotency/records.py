"""
Idempotency keys in Redis: one run at a time, one charge, and a stored response to replay.

A record is one string, by its first byte:
    running  "1", fingerprint (32 bytes), token (16 bytes); expires with the lease
    done     "2", fingerprint (32 bytes), sealed response or nothing; expires after `ttl_s`
Without a record the key is free. Its name is the account's hash tag and the claim's scope.

Rules.
1. Every change is one script that compares the first 49 bytes and changes the record only if they
   are as expected: the run's own token, or nothing.
2. A worker renews the records of its running calls. If the worker is killed, its keys become free
   when their leases expire.
3. An outcome is pending until Redis confirms it: it is added to `_pending`, sent, and sent again
   until a reply arrives. The outcome of a run whose lease expired meanwhile is still stored, unless
   another run has claimed the key.
4. A `begin` without a reply may have claimed the key: freeing it is pending too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from gateway.core.idempotency import NONCE_BYTES, Claim, GrantedClaim, StoredResponse
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Idempotency
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable, Reply, ReplyError
from gateway.store.redis.scripts import LuaScript, read_script
from gateway.store.redis.shards import hash_tag

_LUA = Path(__file__).parent / "lua"
TOKEN_BYTES = 16
MAX_PENDING_BYTES = 64 * 1024 * 1024
"""Outcomes that wait for Redis; beyond this their responses are dropped."""
MAX_PENDING_FREES = 10_000
"""Keys to free that wait for Redis; beyond this they stay claimed until their leases expire."""

_PART = 200
_PART_BYTES = 1024 * 1024
"""How many pending outcomes are sent at once."""
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
_BEGIN_ATTEMPTS = 2
"""The second one overwrites a response that cannot be decrypted."""

logger = logging.getLogger(__name__)


def idempotency_scripts() -> list[LuaScript]:
    """Return the scripts. Reads their files."""
    return [read_script(_LUA, name) for name in ("begin", "end", "renew")]


class _Pending:
    """An outcome that Redis has not confirmed; dropped at `until`."""

    __slots__ = ("granted", "record", "sending", "until")

    def __init__(self, granted: GrantedClaim, record: bytes, until: float) -> None:
        self.granted = granted
        self.record = record
        self.until = until
        self.sending = False


class IdempotencyRecords:
    """
    `ports.IdempotencyStore` of one worker.

    Args:
        bus: Loads `idempotency_scripts()` at connect.
        settings: The `idempotency` section.
        key_prefix: `redis.key_prefix`.
        count: Called once per `begin` with its result: fresh, replayed, running, completed,
            mismatch or unavailable; and with unreadable if a stored response cannot be decrypted.
        clock: Monotonic seconds.
        random_bytes: For tokens and nonces.
    """

    def __init__(
        self,
        bus: RedisBus,
        settings: Idempotency,
        key_prefix: str,
        *,
        count: Callable[[str], None],
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
        self._running: dict[
            bytes, tuple[GrantedClaim, float]
        ] = {}  # in the order of their next renewal
        self._pending: dict[bytes, _Pending] = {}
        self._pending_bytes = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start renewing leases and resending pending outcomes, on the running loop."""
        self._task = asyncio.create_task(self._maintain(), name="idempotency")

    async def aclose(self) -> None:
        """Resend pending outcomes once and stop; running calls keep their leases. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._send_pending()

    # The port.

    async def begin(self, claim: Claim) -> GrantedClaim | StoredResponse:
        """
        Return the right to run the call, or the response of the completed run.

        Raises:
            GatewayError: CONFLICT, IDEMPOTENCY_COMPLETED, IDEMPOTENCY_MISMATCH, STORE_UNAVAILABLE.
        """
        granted = GrantedClaim(claim, self._random_bytes(TOKEN_BYTES))
        overwrite = b""
        for _ in range(_BEGIN_ATTEMPTS):
            reply = await self._claim(granted, overwrite)
            if reply == _TAKEN:
                self._running[granted.token] = granted, self._clock() + self._renew_after_s
                self._count("fresh")
                return granted
            if not isinstance(reply, bytes) or not reply:
                raise self._refusal(reply)
            response = claim.sealer.unseal(reply, claim)
            if response is not None:
                self._count("replayed")
                return response
            self._count("unreadable")
            logger.warning("stored_response_decryption_failed", extra={"scope": claim.scope.hex()})
            overwrite = (_DONE + claim.fingerprint + reply)[:_HEAD_BYTES]
        raise self._unavailable("the stored response changed and cannot be decrypted")

    async def finish(self, granted: GrantedClaim, response: StoredResponse | None) -> None:
        """Store the outcome of a charged run; without the response if None or too long."""
        claim = granted.claim
        record = _DONE + claim.fingerprint
        if response is not None and len(response.body) <= self._settings.max_response_bytes:
            record += claim.sealer.seal(response, claim, self._random_bytes(NONCE_BYTES))
        await self._end_run(granted, record)

    async def free(self, granted: GrantedClaim) -> None:
        """Free the key: the run failed without a charge."""
        await self._end_run(granted, _FREE)

    # Beginning a run.

    async def _claim(self, granted: GrantedClaim, overwrite: bytes) -> Reply:
        """Run the begin script; without a reply, free the key."""
        try:
            return await self._bus.script(
                self._begin,
                [self._name(granted.claim)],
                (_running_record(granted), self._lease_ms, overwrite),
            )
        except (RedisUnavailable, ReplyError) as error:
            if not isinstance(error, RedisUnavailable) or error.reason in ("timeout", "lost"):
                self._add_pending_free(granted)
            raise self._unavailable(str(error)) from error
        except asyncio.CancelledError:
            self._add_pending_free(granted)
            raise

    def _refusal(self, reply: Reply) -> GatewayError:
        if reply == _IN_USE:
            self._count("running")
            return GatewayError(
                ErrorKind.CONFLICT,
                "A request with this Idempotency-Key is in progress. Retry after it has completed.",
                retry_after_s=_WAIT_S,
            )
        if reply == _OTHER_BODY:
            self._count("mismatch")
            return GatewayError(
                ErrorKind.IDEMPOTENCY_MISMATCH,
                "This Idempotency-Key was used with a different request body. Use a new key.",
            )
        self._count("completed")
        return GatewayError(
            ErrorKind.IDEMPOTENCY_COMPLETED,
            "The request with this Idempotency-Key was charged and its response cannot be "
            "replayed. To run it again, use a new key.",
        )

    def _unavailable(self, detail: str) -> GatewayError:
        self._count("unavailable")
        return GatewayError(
            ErrorKind.STORE_UNAVAILABLE,
            "Idempotency-Key cannot be checked at the moment; the request was not run. "
            "Retry shortly.",
            retry_after_s=_WAIT_S,
            detail=detail,
        )

    # Pending outcomes.

    async def _end_run(self, granted: GrantedClaim, record: bytes) -> None:
        self._running.pop(granted.token, None)
        await self._send(self._add_pending(granted, record))

    def _add_pending(self, granted: GrantedClaim, record: bytes) -> _Pending:
        settings = self._settings
        pending = _Pending(
            granted, record, self._clock() + (settings.ttl_s if record else settings.lease_s)
        )
        self._pending[granted.token] = pending
        self._pending_bytes += len(record)
        return pending

    def _add_pending_free(self, granted: GrantedClaim) -> None:
        if len(self._pending) < MAX_PENDING_FREES:
            self._add_pending(granted, _FREE)

    async def _send(self, pending: _Pending) -> bool:
        """Send an outcome; return False and keep it if there is no reply."""
        claim = pending.granted.claim
        pending.sending = True
        try:
            kept = await self._bus.script(
                self._end,
                [self._name(claim), self._bytes_name(claim)],
                (
                    *(_running_record(pending.granted), pending.record),
                    *(self._ttl_ms, self._settings.max_account_bytes),
                ),
            )
        except (RedisUnavailable, ReplyError) as error:
            self._defer(pending, error)
            return False
        finally:
            pending.sending = False
        self._forget(pending)
        if not kept:
            logger.warning("idempotency_claim_superseded", extra={"scope": claim.scope.hex()})
        return True

    def _defer(self, pending: _Pending, error: Exception) -> None:
        if self._pending_bytes > MAX_PENDING_BYTES and pending.record:
            spent = _DONE + pending.granted.claim.fingerprint
            self._pending_bytes -= len(pending.record) - len(spent)
            pending.record = spent
        fields = {"reason": str(error), "pending": len(self._pending)}
        logger.debug("idempotency_outcome_deferred", extra=fields)

    def _forget(self, pending: _Pending) -> None:
        if self._pending.pop(pending.granted.token, None) is not None:
            self._pending_bytes -= len(pending.record)

    async def _send_pending(self) -> None:
        """Resend pending outcomes in parts, between other commands; drop expired ones."""
        now = self._clock()
        part: list[_Pending] = []
        part_bytes = 0
        for pending in list(self._pending.values()):
            if pending.until <= now:
                self._forget(pending)
            elif not pending.sending:
                part.append(pending)
                part_bytes += len(pending.record)
            if len(part) >= _PART or part_bytes >= _PART_BYTES:
                if not await self._send_all(part):
                    return
                part.clear()
                part_bytes = 0
        await self._send_all(part)

    async def _send_all(self, part: list[_Pending]) -> bool:
        return all(await asyncio.gather(*[self._send(pending) for pending in part]))

    # Leases.

    async def _maintain(self) -> None:
        tick_s = min(_TICK_S, self._settings.lease_s / _TICKS_PER_LEASE)
        while True:
            await asyncio.sleep(tick_s)
            try:
                await asyncio.gather(self._renew_due(), self._send_pending())
            except Exception:
                logger.exception("idempotency_maintenance_failed")

    async def _renew_due(self) -> None:
        now = self._clock()
        due: list[GrantedClaim] = []
        for granted, at in self._running.values():
            if at > now:
                break
            due.append(granted)
        for granted in due:  # move to the end of the order
            del self._running[granted.token]
            self._running[granted.token] = granted, now + self._renew_after_s
        await asyncio.gather(*[self._renew_one(granted) for granted in due])

    async def _renew_one(self, granted: GrantedClaim) -> None:
        try:
            renewed = await self._bus.script(
                self._renew, [self._name(granted.claim)], (_running_record(granted), self._lease_ms)
            )
        except (RedisUnavailable, ReplyError):
            return  # two more renewals follow within the lease
        if not renewed and self._running.pop(granted.token, None) is not None:
            logger.warning("idempotency_lease_lost", extra={"scope": granted.claim.scope.hex()})

    # Names.

    def _name(self, claim: Claim) -> str:
        return f"{self._key_prefix}{hash_tag(claim.account_id)}idem:{claim.scope.hex()}"

    def _bytes_name(self, claim: Claim) -> str:
        return f"{self._key_prefix}{hash_tag(claim.account_id)}idem-bytes:{claim.account_id}"


def _running_record(granted: GrantedClaim) -> bytes:
    return _RUNNING + granted.claim.fingerprint + granted.token
