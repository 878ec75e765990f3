"""Places tool results in a chat history directly after the message with their calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from msgspec import UnsetType


class _Call(Protocol):
    @property
    def id(self) -> str: ...


class _Message(Protocol):
    @property
    def role(self) -> str: ...
    @property
    def tool_calls(self) -> Sequence[_Call] | UnsetType | None: ...
    @property
    def tool_call_id(self) -> str | UnsetType | None: ...


M = TypeVar("M", bound=_Message)


def with_results_after_calls(messages: list[M]) -> list[M]:
    """
    Return the messages with tool results directly after their calls, in the calls' order.

    A result belongs to the last call before it with the same id. Upstreams reject a history with
    other messages between calls and results; these are moved after the results. A result without a
    call stays where it is.
    """
    ordered: list[list[M]] = []
    results: dict[str, list[M]] = {}  # id of a call -> where its results are collected
    for message in messages:
        place = None
        if message.role == "tool" and isinstance(message.tool_call_id, str):
            place = results.get(message.tool_call_id)
        if place is not None:
            place.append(message)
            continue
        ordered.append([message])
        for call_id in dict.fromkeys(call.id for call in message.tool_calls or ()):
            results[call_id] = []
            ordered.append(results[call_id])
    return [message for group in ordered for message in group]
