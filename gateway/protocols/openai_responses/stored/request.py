"""
Finds references to stored responses in a request, and replaces them by the items.

The items of a conversation are joined as raw JSON; only ids and types are decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from gateway.protocols.codec.json_decode import decode_or_none, decode_request
from gateway.protocols.openai_responses.stored.ids import input_item_id

_NULL: Final = Raw(b"null")
_encode: Final = msgspec.json.Encoder().encode


class StoreRequest(msgspec.Struct):
    """The members of a request that concern stored responses."""

    store: bool | None = None
    previous_response_id: str | None = None
    input: Raw = _NULL


class _Reference(msgspec.Struct):
    type: str | None = None
    role: str | None = None
    id: str | None = None


_REQUEST: Final = msgspec.json.Decoder(StoreRequest)
_REFERENCES: Final = msgspec.json.Decoder(list[_Reference])
_ITEMS: Final = msgspec.json.Decoder(list[Raw])
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_STRING: Final = msgspec.json.Decoder(str)


class _Output(msgspec.Struct):
    output: Raw = Raw(b"[]")


_OUTPUT: Final = msgspec.json.Decoder(_Output)


def read_store_request(body: bytes) -> StoreRequest:
    """
    Return the members of a request that concern stored responses.

    Raises:
        GatewayError: BAD_REQUEST: not a JSON object, or a member of the wrong type.
    """
    return decode_request(body, _REQUEST)


def references_in(items: bytes) -> list[str | None]:
    """
    Return the id that each input item refers to; None for items that are no references.

    The list is empty if there are no references, or if `items` is not a list, which is rejected
    later.
    """
    if items[:1] != b"[":
        return []
    found = decode_or_none(items, _REFERENCES) or ()
    ids = [item.id if _is_reference(item) else None for item in found]
    return ids if any(ids) else []


def _is_reference(item: _Reference) -> bool:
    # References may omit the type: no other item consists of an id only.
    return item.type == "item_reference" or (item.type is None and item.role is None)


def with_references(
    items: bytes, references: list[str | None], found: Mapping[str, bytes]
) -> bytes:
    """Return input items with each reference replaced by its item."""
    given: list[Raw] = decode_request(items, _ITEMS)
    return _encode(
        [
            item if wanted is None else Raw(found[wanted])
            for item, wanted in zip(given, references, strict=True)
        ]
    )


def with_history(body: bytes, history: Iterable[bytes], items: bytes) -> bytes:
    """
    Return a request that refers to no stored response.

    Args:
        body: The client's request.
        history: JSON arrays of the items before its own.
        items: Its own input, an array of items or a string.
    """
    members = decode_request(body, _MEMBERS)
    members.pop("previous_response_id", None)
    before = [item for part in history for item in decode_request(part, _ITEMS)]
    members["input"] = Raw(_encode([*before, *_as_items(items)]) if before else items)
    return _encode(members)


def kept_items(items: bytes, token: str) -> bytes:
    """
    Return a request's own input in stored form: a list in which every item has a type and an id.

    Args:
        items: A JSON array of items without references, or a string.
        token: Of the response, for the ids of items that have none.
    """
    kept = []
    for place, item in enumerate(_as_items(items)):
        members = decode_request(bytes(item), _MEMBERS)
        kind = _text(members.get("type")) or "message"
        if not _text(members.get("id")):
            item_id = input_item_id(kind, token, place)
            members["id"] = Raw(_encode(item_id))
        members.setdefault("type", Raw(_encode(kind)))
        content = members.get("content")
        if kind == "message" and content is not None and bytes(content)[:1] == b'"':
            members["content"] = _parts(content, _text(members.get("role")))
        kept.append(members)
    return _encode(kept)


def items_by_id(items: bytes) -> dict[str, bytes]:
    """Return stored items by id."""
    return dict(item_ids(items))


def item_ids(items: bytes) -> list[tuple[str, bytes]]:
    """Return stored items, each with its id."""
    raw = decode_request(items, _ITEMS)
    named = decode_request(items, _REFERENCES)
    return [(each.id or "", bytes(item)) for item, each in zip(raw, named, strict=True)]


def output_of(response: bytes) -> bytes:
    """Return the output of a stored response, a JSON array."""
    return bytes(_OUTPUT.decode(response).output)


def _as_items(items: bytes) -> list[Raw]:
    if items[:1] == b"[":
        return decode_request(items, _ITEMS)
    if items[:1] != b'"':
        return []
    message = {"type": "message", "role": "user", "content": Raw(items)}
    return [Raw(_encode(message))]


def _parts(content: Raw, role: str) -> Raw:
    part: dict[str, object] = {"type": "input_text", "text": content}
    if role == "assistant":
        part = {"type": "output_text", "text": content, "annotations": []}
    return Raw(_encode([part]))


def _text(value: Raw | None) -> str:
    if value is None or bytes(value)[:1] != b'"':
        return ""
    return decode_request(bytes(value), _STRING)
