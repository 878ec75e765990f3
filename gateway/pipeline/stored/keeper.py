"""
Resolves the references of Responses requests before a call, and stores the response after it.

A response is stored before its last bytes are sent, so that a client may continue it at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from gateway.core.model import Wire
from gateway.core.stored_responses import (
    NONCE_BYTES,
    Part,
    ResponseSealer,
    encode_input,
)
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.offload import offloaded_if_long
from gateway.pipeline.stored.conversations import MOST_RESPONSES, Conversations
from gateway.ports import ResponseStore
from gateway.protocols.http.request.bounds import (
    TRANSLATED_BYTES,
    RequestBounds,
    check_parts,
)
from gateway.protocols.http.request.fields import check_request
from gateway.protocols.openai_responses.stored.request import (
    StoreRequest,
    kept_items,
    read_store_request,
    references_in,
    with_history,
    with_references,
)


class ResponseKeeper:
    """
    Stores the response of one call.

    Args:
        store: Holds the responses.
        sealer: The client's.
        token: The token in the response's ids.
        items: The request's own input.
        ancestors: Tokens of the responses that it continues.
        max_bytes: Largest response that is stored.
        count: Called with the result.
    """

    def __init__(
        self,
        store: ResponseStore,
        sealer: ResponseSealer,
        token: str,
        items: bytes,
        ancestors: tuple[str, ...],
        *,
        max_bytes: int,
        count: Callable[[str], None],
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._name = sealer.name(token)
        self.token = token
        self._items = items
        self._ancestors = ancestors
        self._left = max_bytes
        self._input = b""
        self._count = count

    async def seal_input(self) -> None:
        """Encrypt the input now, so that no plain text is kept during the call."""
        items, self._items = self._items, b""
        if len(items) > self._left:
            self._left = -1
            return
        self._input = await offloaded_if_long(len(items), self._sealed_input, items)
        self._left -= len(items)

    def _sealed_input(self, items: bytes) -> bytes:
        plain = encode_input(kept_items(items, self.token), self._ancestors)
        return self._sealed(Part.INPUT, plain)

    def _sealed(self, part: Part, plain: bytes) -> bytes:
        return self._sealer.seal(self._name, part, plain, os.urandom(NONCE_BYTES))

    async def keep(self, response: bytes) -> bool:
        """Store the response object; return whether it is stored. Never raises."""
        if len(response) > self._left:
            self._count("too_large")
            return False
        sealed = await offloaded_if_long(len(response), self._sealed, Part.RESPONSE, response)
        parts = {Part.INPUT: self._input, Part.RESPONSE: sealed}
        kept = await self._store.keep(self._sealer.account_id, self._name, parts)
        self._count("kept" if kept else "refused")
        return kept


class WholeRequest(msgspec.Struct, frozen=True):
    """A Responses request without references to stored responses."""

    body: bytes
    token: str
    """The token in the ids of its response."""
    previous_response_id: str | None = None
    keeper: ResponseKeeper | None = None
    """Stores its response; None: it is not stored."""


class StoredResponses:
    """
    Resolves the references of requests and stores their responses.

    Args:
        store: Holds the responses.
        max_response_bytes: Largest response that is stored.
        count: Called with the result for each response: kept, too_large or refused.
    """

    def __init__(
        self, store: ResponseStore, max_response_bytes: int, count: Callable[[str], None]
    ) -> None:
        self.conversations = Conversations(store)
        self._store = store
        self._max_response_bytes = max_response_bytes
        self._count = count

    async def whole(
        self,
        body: bytes,
        sealer: ResponseSealer,
        token: str,
        *,
        bounds: RequestBounds,
        limit_bytes: int,
    ) -> WholeRequest:
        """
        Return a request with all items of its conversation, and the keeper of its response.

        Args:
            body: The client's request.
            sealer: The client's.
            token: The token in the response's ids.
            bounds: Bounds of the client's body.
            limit_bytes: Largest body, including the items it refers to.

        Raises:
            GatewayError: BAD_REQUEST, RESPONSE_NOT_FOUND, BODY_TOO_LARGE, STORE_UNAVAILABLE.
        """
        request, references = await offloaded_if_long(len(body), _read, body, bounds)
        items = bytes(request.input)
        previous = request.previous_response_id or None
        ancestors: tuple[str, ...] = ()
        if references or previous:
            await offloaded_if_long(len(body), check_request, body, Wire.OPENAI, bounds)
            history: list[bytes] = []
            found: dict[str, bytes] = {}
            left = limit_bytes - len(body)
            if previous is not None:
                history, ancestors = await self.conversations.history(sealer, previous, left)
                left -= sum(map(len, history))
            if references:
                wanted = dict.fromkeys(item_id for item_id in references if item_id is not None)
                found = await self.conversations.items(sealer, wanted, left)
            size = limit_bytes - left + sum(map(len, found.values()))
            body, items = await offloaded_if_long(
                size, _joined, body, history, items, references, found
            )
            _check_size(body, limit_bytes)
        if request.store is False:
            return WholeRequest(body, token, previous)
        return WholeRequest(body, token, previous, self._keeper(sealer, token, items, ancestors))

    def _keeper(
        self, sealer: ResponseSealer, token: str, items: bytes, ancestors: tuple[str, ...]
    ) -> ResponseKeeper | None:
        if len(ancestors) >= MOST_RESPONSES:
            return None
        return ResponseKeeper(
            self._store,
            sealer,
            token,
            items,
            ancestors,
            max_bytes=self._max_response_bytes,
            count=self._count,
        )


async def refuse_references(body: bytes, bounds: RequestBounds) -> None:
    """
    Reject a request that refers to stored responses, if none are stored.

    Raises:
        GatewayError: UNSUPPORTED, naming the remedy; BAD_REQUEST.
    """
    request, references = await offloaded_if_long(len(body), _read, body, bounds)
    param = "previous_response_id" if request.previous_response_id else "input"
    if request.previous_response_id or references:
        raise GatewayError(
            ErrorKind.UNSUPPORTED,
            "This gateway stores no responses: send the full input without previous_response_id "
            "and item_reference, and set store to false.",
            param=param,
        )


def _read(body: bytes, bounds: RequestBounds) -> tuple[StoreRequest, list[str | None]]:
    if len(body) > TRANSLATED_BYTES:
        check_parts(body, bounds)  # decoding millions of items would block the loop for seconds
    request = read_store_request(body)
    return request, references_in(bytes(request.input))


def _joined(
    body: bytes,
    history: list[bytes],
    items: bytes,
    references: list[str | None],
    found: dict[str, bytes],
) -> tuple[bytes, bytes]:
    """Return the request with all items, and its own input without references."""
    if references:
        items = with_references(items, references, found)
    return with_history(body, history, items), items


def _check_size(body: bytes, limit_bytes: int) -> None:
    if len(body) > limit_bytes:
        raise GatewayError(
            ErrorKind.BODY_TOO_LARGE,
            f"With the stored items that it refers to, the request has more than {limit_bytes} "
            "bytes: send a shorter full input without previous_response_id and item_reference.",
        )
