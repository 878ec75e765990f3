"""
Reads conversations from stored responses: the history of a response, and items by their ids.

A response lists all its ancestors, so that a conversation of any length is read in two round trips:
the response, then its ancestors. Every lookup is bounded in responses and in bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from gateway.core.stored_responses import Part, ResponseSealer, SealedParts, decode_input
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.offload import offloaded_if_long
from gateway.ports import ResponseStore
from gateway.protocols.openai_responses.stored.ids import (
    item_place,
    response_id,
    response_token,
)
from gateway.protocols.openai_responses.stored.request import item_ids, items_by_id, output_of

MOST_RESPONSES: Final = 1000
"""Most responses of one conversation, or that one request refers to."""

_BOTH: Final = frozenset(Part)
_INPUT: Final = frozenset({Part.INPUT})
_RESPONSE: Final = frozenset({Part.RESPONSE})
_REMEDY: Final = (
    "It may have expired, been removed to make room, been deleted, or belong to another API key. "
)

logger = logging.getLogger(__name__)

Opened = dict[str, dict[Part, bytes]]
"""Decrypted parts by the token of their response."""


class Conversations:
    """
    Reads stored responses.

    Args:
        store: Holds them.
    """

    def __init__(self, store: ResponseStore) -> None:
        self._store = store

    async def history(
        self, sealer: ResponseSealer, previous_id: str, limit_bytes: int
    ) -> tuple[list[bytes], tuple[str, ...]]:
        """
        Return the items up to and including a response, and the tokens of its responses.

        Args:
            sealer: Of the client.
            previous_id: The response's id.
            limit_bytes: Largest history.

        Returns:
            JSON arrays of items, oldest first; tokens, oldest first.

        Raises:
            GatewayError: BAD_REQUEST (unknown, or too many responses), BODY_TOO_LARGE,
                STORE_UNAVAILABLE.
        """
        token = response_token(previous_id)
        opened = await self._open(sealer, {token: _BOTH} if token else {}, limit_bytes)
        if token is None or len(opened.get(token, {})) < len(_BOTH):
            raise _previous_not_found(previous_id)
        ancestors = decode_input(opened[token][Part.INPUT]).ancestors
        chain = (*ancestors, token)
        if len(chain) > MOST_RESPONSES:
            raise GatewayError(
                ErrorKind.BAD_REQUEST,
                f"The conversation of '{previous_id}' has more than {MOST_RESPONSES} responses: "
                "send the full input without previous_response_id.",
                param="previous_response_id",
            )
        limit_bytes -= _size(opened)
        opened |= await self._open(sealer, dict.fromkeys(ancestors, _BOTH), limit_bytes)
        for each in chain:
            if len(opened.get(each, {})) < len(_BOTH):
                raise _previous_not_found(previous_id, response_id(each))
        parts = [opened[each] for each in chain]
        return await offloaded_if_long(_size(opened), _items_of, parts), chain

    async def items(
        self, sealer: ResponseSealer, ids: Iterable[str], limit_bytes: int
    ) -> dict[str, bytes]:
        """
        Return stored items by their ids.

        Raises:
            GatewayError: RESPONSE_NOT_FOUND, BAD_REQUEST (too many responses), BODY_TOO_LARGE,
                STORE_UNAVAILABLE.
        """
        wanted: dict[str, frozenset[Part]] = {}
        for item_id in ids:
            place = item_place(item_id)
            if place is None:
                raise _item_not_found(item_id)
            part = _INPUT if place.is_input else _RESPONSE
            wanted[place.token] = wanted.get(place.token, frozenset()) | part
        if len(wanted) > MOST_RESPONSES:
            raise GatewayError(
                ErrorKind.BAD_REQUEST,
                f"The input refers to items of more than {MOST_RESPONSES} responses: send the "
                "items themselves.",
                param="input",
            )
        opened = await self._open(sealer, wanted, limit_bytes)
        found = await offloaded_if_long(_size(opened), _named_items, opened)
        for item_id in ids:
            if item_id not in found:
                raise _item_not_found(item_id)
        return found

    async def response(self, sealer: ResponseSealer, wanted_id: str) -> bytes:
        """
        Return a stored response object.

        Raises:
            GatewayError: RESPONSE_NOT_FOUND, STORE_UNAVAILABLE.
        """
        return (await self._one(sealer, wanted_id, Part.RESPONSE))[Part.RESPONSE]

    async def input_items(
        self, sealer: ResponseSealer, wanted_id: str, limit_bytes: int
    ) -> list[tuple[str, bytes]]:
        """
        Return the input of a response, oldest first, each item with its id.

        Raises:
            GatewayError: RESPONSE_NOT_FOUND, BODY_TOO_LARGE, STORE_UNAVAILABLE.
        """
        stored = decode_input((await self._one(sealer, wanted_id, Part.INPUT))[Part.INPUT])
        items: list[bytes] = []
        if stored.ancestors:
            before = response_id(stored.ancestors[-1])
            items, _ = await self.history(sealer, before, limit_bytes)
        items.append(stored.items)
        return await offloaded_if_long(sum(map(len, items)), _listed, items)

    async def delete(self, sealer: ResponseSealer, wanted_id: str) -> None:
        """
        Remove a response.

        Raises:
            GatewayError: RESPONSE_NOT_FOUND, STORE_UNAVAILABLE.
        """
        token = response_token(wanted_id)
        if token is None or not await self._store.forget(sealer.account_id, sealer.name(token)):
            raise _response_not_found(wanted_id)

    async def _one(self, sealer: ResponseSealer, wanted_id: str, part: Part) -> dict[Part, bytes]:
        token = response_token(wanted_id)
        wanted = {token: frozenset({part})} if token else {}
        opened = await self._open(sealer, wanted, _ANY_SIZE, renew=False)
        if token is None or part not in opened.get(token, {}):
            raise _response_not_found(wanted_id)
        return opened[token]

    async def _open(
        self,
        sealer: ResponseSealer,
        wanted: dict[str, frozenset[Part]],
        limit_bytes: int,
        *,
        renew: bool = True,
    ) -> Opened:
        if not wanted:
            return {}
        names = [(sealer.name(token), parts) for token, parts in wanted.items()]
        fetched = await self._store.fetch(sealer.account_id, names, renew=renew)
        if fetched is None:
            raise _too_large(limit_bytes)
        sealed = {
            token: (name, parts)
            for (name, _), token, parts in zip(names, wanted, fetched, strict=True)
        }
        # Text is compressed to about a fifth.
        size = 5 * sum(len(part) for parts in fetched for part in parts.values())
        return await offloaded_if_long(size, _unsealed, sealer, sealed, limit_bytes)


def _unsealed(
    sealer: ResponseSealer, sealed: dict[str, tuple[bytes, SealedParts]], limit_bytes: int
) -> Opened:
    """Return the parts that can be decrypted."""
    opened: Opened = {}
    left = limit_bytes
    for token, (name, parts) in sealed.items():
        opened[token] = {}
        for part, encrypted in parts.items():
            try:
                plain = sealer.unseal(name, part, encrypted, left)
            except OverflowError as error:
                raise _too_large(limit_bytes) from error
            if plain is None:
                logger.warning("stored_response_decryption_failed", extra={"scope": name.hex()})
                continue
            left -= len(plain)
            opened[token][part] = plain
    return opened


def _items_of(responses: list[dict[Part, bytes]]) -> list[bytes]:
    """Return input and output of each response, JSON arrays of items."""
    items: list[bytes] = []
    for parts in responses:
        items.append(decode_input(parts[Part.INPUT]).items)
        items.append(output_of(parts[Part.RESPONSE]))
    return items


def _named_items(opened: Opened) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for parts in opened.values():
        if Part.RESPONSE in parts:
            found |= items_by_id(output_of(parts[Part.RESPONSE]))
        if Part.INPUT in parts:
            found |= items_by_id(decode_input(parts[Part.INPUT]).items)
    return found


def _listed(parts: list[bytes]) -> list[tuple[str, bytes]]:
    return [named for part in parts for named in item_ids(part)]


_ANY_SIZE: Final = 2**32


def _size(opened: Opened) -> int:
    return sum(len(plain) for parts in opened.values() for plain in parts.values())


def _previous_not_found(previous_id: str, missing: str = "") -> GatewayError:
    which = f", which continues '{missing}'," if missing not in ("", previous_id) else ""
    return GatewayError(
        ErrorKind.BAD_REQUEST,
        f"Previous response with id '{previous_id[:80]}'{which} not found. {_REMEDY}"
        "Send the full input without previous_response_id, and set store to false.",
        param="previous_response_id",
        code="previous_response_not_found",
    )


def _item_not_found(item_id: str) -> GatewayError:
    return GatewayError(
        ErrorKind.RESPONSE_NOT_FOUND,
        f"Item with id '{item_id[:80]}' not found. {_REMEDY}"
        "Send the full input with the item itself instead of a reference, and set store to false.",
        param="input",
        code="item_not_found",
    )


def _response_not_found(wanted_id: str) -> GatewayError:
    return GatewayError(
        ErrorKind.RESPONSE_NOT_FOUND,
        f"Response with id '{wanted_id[:80]}' not found. {_REMEDY}"
        "Responses to requests with store set to false are never stored.",
    )


def _too_large(limit_bytes: int) -> GatewayError:
    return GatewayError(
        ErrorKind.BODY_TOO_LARGE,
        f"The stored responses that the request refers to exceed {limit_bytes} bytes together, or "
        "the limit of one lookup: send a shorter full input without previous_response_id and "
        "item_reference.",
    )
