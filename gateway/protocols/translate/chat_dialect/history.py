"""
Adapts the messages of a chat request to a dialect: tool calls, their results and reasoning.

Messages are decoded JSON and changed in place. The same history gives the same result, and a longer
one begins with the same messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from gateway.errors import GatewayError
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.ids import to_openai_id
from gateway.protocols.translate import tool_order
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.messages_to_chat.messages import NO_SIGNATURE

Json = dict[str, Any]

GOOGLE_FORMAT: Final = "google-gemini-v1"
"""`format` of a reasoning detail with a thought signature; its `id` is the call's."""


class _SeenCall(msgspec.Struct, gc=False):
    id: str = ""
    extra_content: Json | None = None


class _Seen(msgspec.Struct, gc=False):
    role: str
    tool_calls: list[_SeenCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _History(msgspec.Struct, gc=False):
    messages: list[_Seen]


class _Messages(msgspec.Struct, gc=False):
    messages: list[Json]


_HISTORY: Final = msgspec.json.Decoder(_History)
_MESSAGES: Final = msgspec.json.Decoder(_Messages)


def has_calls(body: bytes) -> bool:
    """Return whether a request's history may have tool calls and must be decoded."""
    # The search for the whole name is several times as slow, because text is full of its letters;
    # in most long prompts it is not needed.
    return b'"tool' in body and b"_call" in body and b'"tool_calls"' in body


def fitting_messages(body: bytes, caps: Capabilities) -> bytes | None:
    """
    Return the messages of a relayed chat request adapted to the upstream; None: no change.

    Args:
        body: The client's request.
        caps: The upstream's capabilities.
    """
    if not has_calls(body):
        return None
    try:
        if _suits(decode_request(body, _HISTORY).messages, caps):
            return None
        messages = decode_request(body, _MESSAGES).messages
    except GatewayError:
        return None  # left to the upstream to reject
    return msgspec.json.encode(fit_history(messages, caps))


def fit_history(messages: list[Json], caps: Capabilities) -> list[Json]:
    """
    Return the messages in the order and with the members that the dialect requires.

    * Results directly follow the message with their calls, in the calls' order.
    * Calls and results without ids get matching ones, by their order.
    * Ids that the upstream would reject are shortened, in calls and results alike.
    * A message with calls has the dialect's filler if it lacks reasoning, and for Gemini its first
      call has a signature: its own, else the value for a lost one.
    """
    _name_calls(messages)
    for message in messages:
        calls = _calls(message)
        if calls:
            _fit_calls(message, calls, caps)
        if message.get("role") == "tool" and isinstance(message.get("tool_call_id"), str):
            message["tool_call_id"] = _fitting_id(message["tool_call_id"], caps)
    return in_order(messages)


def in_order(messages: list[Json]) -> list[Json]:
    """Return the messages with tool results directly after their calls, see `tool_order`."""
    ordered = tool_order.with_results_after_calls([_Ordered(message) for message in messages])
    return [each.message for each in ordered]


class _OrderedCall(NamedTuple):
    id: str


class _Ordered:
    """A message in the form that `tool_order` needs."""

    __slots__ = ("message", "role", "tool_call_id", "tool_calls")

    def __init__(self, message: Json) -> None:
        self.message = message
        self.role = str(message.get("role"))
        call_id = message.get("tool_call_id")
        self.tool_call_id = call_id if isinstance(call_id, str) else None
        self.tool_calls = [_OrderedCall(str(call.get("id"))) for call in _calls(message)]


def _suits(messages: list[_Seen], caps: Capabilities) -> bool:
    for message in messages:
        if message.role == "tool":
            call_id = message.tool_call_id
            if not call_id or _fitting_id(call_id, caps) != call_id:
                return False
        calls = message.tool_calls or ()
        if calls and not _calls_suit(message, calls, caps):
            return False
    ordered = tool_order.with_results_after_calls(messages)
    return all(map(lambda one, other: one is other, ordered, messages))


def _calls_suit(message: _Seen, calls: Sequence[_SeenCall], caps: Capabilities) -> bool:
    if any(not call.id or _fitting_id(call.id, caps) != call.id for call in calls):
        return False
    if caps.thought_signatures and not _google(calls[0].extra_content):
        return False
    if caps.reasoning_fill is None:
        return True
    is_named = caps.reasoning_in == "reasoning"
    return bool(message.reasoning if is_named else message.reasoning_content)


def _fitting_id(call_id: str, caps: Capabilities) -> str:
    if caps.tool_id_max is None:
        return call_id
    return to_openai_id(call_id, caps.tool_id_max, exact=caps.tool_id_exact)


def _google(extra: object) -> object:
    google = extra.get("google") if isinstance(extra, dict) else None
    return google.get("thought_signature") if isinstance(google, dict) else None


def _calls(message: Json) -> list[Json]:
    calls = message.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _name_calls(messages: list[Json]) -> None:
    """Give calls without an id a new one, and their results the same."""
    without_result: list[str] = []
    for index, message in enumerate(messages):
        calls = _calls(message)
        if calls:
            without_result = []
        for ordinal, call in enumerate(calls):
            if not call.get("id"):
                call["id"] = f"call_{index}_{ordinal}"
                without_result.append(call["id"])
        if message.get("role") == "tool" and not message.get("tool_call_id") and without_result:
            message["tool_call_id"] = without_result.pop(0)


def _fit_calls(message: Json, calls: list[Json], caps: Capabilities) -> None:
    signatures = _own_signatures(message)
    for call in calls:
        own = signatures.get(str(call.get("id")))
        if caps.thought_signatures and own is not None:
            _sign(call, own)
        if isinstance(call.get("id"), str):
            call["id"] = _fitting_id(call["id"], caps)
    if caps.thought_signatures and not _google(calls[0].get("extra_content")):
        _sign(calls[0], NO_SIGNATURE)
    field = caps.reasoning_in
    if caps.reasoning_fill is not None and field is not None and not message.get(field):
        given = message.get("reasoning_content") or message.pop("reasoning", None)
        message[field] = given or caps.reasoning_fill


def _sign(call: Json, signature: str) -> None:
    given = call.get("extra_content")
    extra = given if isinstance(given, dict) else {}
    call["extra_content"] = {**extra, "google": {"thought_signature": signature}}


def _own_signatures(message: Json) -> dict[str, str]:
    """Return Gemini's signatures of a message's calls, by call id."""
    details = message.get("reasoning_details")
    return {
        entry["id"]: entry["data"]
        for entry in (details if isinstance(details, list) else ())
        if isinstance(entry, dict)
        and entry.get("format") == GOOGLE_FORMAT
        and isinstance(entry.get("id"), str)
        and isinstance(entry.get("data"), str)
    }
