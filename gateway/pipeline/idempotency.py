"""
Calls with an Idempotency-Key: run once, charged once, replayed from the stored response.

Whole responses are stored, encrypted for their client. For a stream, only the fact that it was
charged is stored: SDKs retry a stream only until its head has arrived.
"""

from __future__ import annotations

from gateway.core.idempotency import (
    GrantedClaim,
    KeyedRequest,
    StoredResponse,
    replay_headers,
)
from gateway.core.model import Principal
from gateway.errors import ErrorKind
from gateway.pipeline.call import Call
from gateway.pipeline.client.channel import ClientChannel
from gateway.ports import IdempotencyStore


class Idempotent:
    """
    Implements Idempotency-Key.

    Args:
        store: Claims and stored responses.
        max_response_bytes: Largest response that is stored.
    """

    def __init__(self, store: IdempotencyStore, max_response_bytes: int) -> None:
        self._store = store
        self._max_response_bytes = max_response_bytes

    async def begin(
        self,
        call: Call,
        channel: ClientChannel,
        keyed: KeyedRequest,
        principal: Principal,
        body: bytes,
    ) -> bool:
        """
        Claim the call's key, or replay the stored response; return whether it was replayed.

        Raises:
            GatewayError: CONFLICT, IDEMPOTENCY_COMPLETED, IDEMPOTENCY_MISMATCH, STORE_UNAVAILABLE.
        """
        granted = await self._store.begin(keyed.claim(principal, call.endpoint, body))
        if isinstance(granted, StoredResponse):
            call.status = granted.status
            headers = replay_headers(granted, call.request_id)
            await channel.respond(granted.status, headers, granted.body)
            return True
        call.granted_claim = granted
        if not call.stream:
            channel.record(self._max_response_bytes)
        return False

    async def release(self, call: Call) -> None:
        """Release the key of a call that is about to be refused, if that costs nothing."""
        granted: GrantedClaim | None = call.granted_claim
        delivered = call.attempt is not None and call.attempt.delivered
        if (
            granted is None
            or delivered
            or (call.error is not None and call.error.kind is ErrorKind.CLIENT_GONE)
        ):
            return
        call.granted_claim = None
        await self._store.free(granted)

    async def conclude(self, call: Call, channel: ClientChannel) -> None:
        """Store the result of a call; after a failure without cost, free its key instead."""
        granted: GrantedClaim | None = call.granted_claim
        if granted is None:
            return
        if call.error is None and not call.stream:
            await self._store.finish(granted, channel.recorded(call.request_id))
        elif call.error is None or call.cost_nanousd:
            await self._store.finish(granted, None)
        else:
            await self._store.free(granted)
