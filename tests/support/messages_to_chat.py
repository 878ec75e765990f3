"""Translating requests of the Messages API in tests; what is not asked is filled in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.messages_to_chat.request import translate_request
from gateway.protocols.translate.stream import TranslatedRequest, TranslationRoute

USER = {"role": "user", "content": "Hi"}


def translate(
    fields: dict[str, Any] | bytes,
    dialect: str = "generic",
    *,
    max_output: int | None = None,
    session_id: str | None = None,
    **caps: object,
) -> TranslatedRequest:
    """Translate a request that has model, max_tokens and one message unless `fields` says else."""
    route = TranslationRoute("up", capabilities(dialect, caps), max_output)
    if isinstance(fields, bytes):
        return translate_request(fields, route, session_id)
    whole = {"model": "m", "max_tokens": 100, "messages": [USER]} | fields
    return translate_request(json.dumps(whole).encode(), route, session_id)


def sent(fields: dict[str, Any] | bytes, dialect: str = "generic", **options: Any) -> Any:
    """Return the upstream's request, decoded."""
    return json.loads(translate(fields, dialect, **options).body)


def messages_for(content: Any, dialect: str = "generic", role: str = "user", **caps: Any) -> Any:
    """Return the upstream's messages for one turn, followed by a user's when it is assistant."""
    turns = [{"role": role, "content": content}]
    if role == "assistant":
        turns.append(USER)
    return sent({"messages": turns}, dialect, **caps)["messages"]


def refusal(fields: dict[str, Any] | bytes, dialect: str = "generic", **options: Any) -> str:
    """Return the message of the refusal; always status 400."""
    with pytest.raises(GatewayError) as caught:
        translate(fields, dialect, **options)
    assert caught.value.surface.anthropic_status == 400
    return caught.value.message


def use(call_id: str = "c1", name: str = "f", **more: Any) -> dict[str, Any]:
    """Return a tool_use block."""
    return {"type": "tool_use", "id": call_id, "name": name, "input": {}} | more
