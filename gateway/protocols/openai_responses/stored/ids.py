"""
Ids of stored responses and their items.

All ids of a response contain its token, so that an id leads to the response without an index:
`resp_<token>`, `<kind>_<token>_<place>` for output items, `<kind>_<token>_in<place>` for input.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_RESPONSE: Final = re.compile(r"resp_([A-Za-z0-9]{1,64})")
_ITEM: Final = re.compile(r"[a-z]{2,8}_([A-Za-z0-9]{1,64})_(in)?[0-9]{1,6}")
_NOT_TOKEN: Final = re.compile(r"[^A-Za-z0-9]")
_KINDS: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "cto",
}


class ItemPlace(NamedTuple):
    """Where an item is stored."""

    token: str
    """The token of its response."""
    is_input: bool


def token_of(request_id: str) -> str:
    """Return the token of the response to a call: its request id, which is unique."""
    return _NOT_TOKEN.sub("", request_id.removeprefix("req_"))


def response_token(response_id: str) -> str | None:
    """Return the token in a response's id; None: the gateway did not make the id."""
    found = _RESPONSE.fullmatch(response_id)
    return found[1] if found else None


def item_place(item_id: str) -> ItemPlace | None:
    """Return where the item with this id is stored; None: the gateway did not make the id."""
    found = _ITEM.fullmatch(item_id)
    return ItemPlace(found[1], found[2] is not None) if found else None


def response_id(token: str) -> str:
    """Return the id of the response with this token."""
    return f"resp_{token}"


def input_item_id(kind: str, token: str, place: int) -> str:
    """Return the id for an input item without one."""
    return f"{_KINDS.get(kind, 'item')}_{token}_in{place}"
