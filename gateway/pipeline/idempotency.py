"""
Calls that carry an Idempotency-Key: run once, charged once, answered again from what is kept.

Whole answers are kept, encrypted for their caller. Of a stream only that it was charged is kept:
SDKs repeat a stream only while its head has not come.
"""

from __future__ import annotations

from gateway.core.idempotency import (
    Hold,
    KeyedRequest,
    ResponseRecorder,
    StoredResponse,
    replay_headers,
)
from gateway.core.model import Principal
from gateway.pipeline.call import Call
from gateway.pipeline.client.channel import ClientChannel
from gateway.ports import IdempotencyStore


class Idempotent:
    """
    Keeps the promise of Idempotency-Key.

    Args:
        store: Who runs what, and what became of it.
        max_response_bytes: Largest answer that is kept.
    """

    def __init__(self, store: IdempotencyStore, max_response_bytes: int) -> None:
        self._store = store
        self._max_answer_bytes = max_response_bytes

    async def begin(
        self,
        call: Call,
        channel: ClientChannel,
        keyed: KeyedRequest,
        principal: Principal,
        body: bytes,
    ) -> bool:
        """
        Take the right to run the call, or answer it from what is kept; True: it is answered.

        Raises:
            GatewayError: CONFLICT, IDEMPOTENCY_COMPLETED, IDEMPOTENCY_MISMATCH, STORE_UNAVAILABLE.
        """
        granted = await self._store.begin(keyed.claim(principal, call.endpoint, body))
        if isinstance(granted, StoredResponse):
            call.status = granted.status
            headers = replay_headers(granted, call.request_id)
            await channel.respond(granted.status, headers, granted.body)
            return True
        call.hold = granted
        if not call.stream:
            channel.copy = ResponseRecorder(self._max_answer_bytes)
            channel.on_gone(None)  # it runs to its end, for whoever asks again
        return False

    async def conclude(self, call: Call, channel: ClientChannel) -> None:
        """Keep what became of a call; a failure that cost nothing frees its key instead."""
        hold: Hold | None = call.hold
        if hold is None:
            return
        if call.error is None and not call.stream and channel.copy is not None:
            await self._store.finish(hold, channel.copy.answer(call.request_id))
        elif call.error is None or call.cost_nanousd:
            await self._store.finish(hold, None)
        else:
            await self._store.free(hold)
