"""
Recognises the conversation of a request, so that its calls can share a prompt cache.

Agents name it in a header or a field. Otherwise it is known by its beginning: the system prompt and
the first message, which every later request of the conversation repeats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from gateway.core.model import Wire
from gateway.core.routing.affinity import hash64
from gateway.protocols.codec.json_skip import ValueSkipper
from gateway.protocols.http.request.fields import CallFields

Header = tuple[bytes, bytes]

SESSION_HEADERS: Final = frozenset(
    {
        b"x-claude-code-session-id",  # Claude Code
        b"x-session-affinity",  # OpenCode
        b"x-session-id",
        b"session_id",  # Codex
        b"conversation_id",
    }
)
_COMPARED_BYTES: Final = 4096
"""Of each part of the beginning; its length is compared too."""
_MOST_PARTS: Final = 8
_MESSAGES: Final = re.compile(rb'"messages"[ \t\r\n]*:[ \t\r\n]*\[')
_SYSTEM: Final = re.compile(rb'"system"[ \t\r\n]*:[ \t\r\n]*(?=["\[])')
_BEFORE_USER: Final = re.compile(rb'"role"[ \t\r\n]*:[ \t\r\n]*"(?:system|developer)"')
_BETWEEN: Final = re.compile(rb"[ \t\r\n,]*+")


def conversation_of(
    headers: Iterable[Header], fields: CallFields, wire: Wire, body: bytes
) -> int | None:
    """
    Return the hash of a request's conversation; None if it has no beginning to recognise.

    Args:
        headers: The client's, names in lower case.
        fields: Of the request.
        wire: Its dialect.
        body: Its body.
    """
    for name, value in headers:
        if name in SESSION_HEADERS and value:
            return hash64(value[:_COMPARED_BYTES])
    named = fields.prompt_cache_key or fields.user_id
    if named:
        return hash64(named[:_COMPARED_BYTES].encode("utf-8", "surrogatepass"))
    start = _beginning(wire, body)
    return hash64(start) if start else None


def _beginning(wire: Wire, body: bytes) -> bytes:
    parts: list[bytes] = []
    if wire is Wire.ANTHROPIC and (system := _SYSTEM.search(body)):
        parts.append(_part(body, system.end(), _value_end(body, system.end())))
    messages = _MESSAGES.search(body)
    at = len(body) if messages is None else messages.end()
    for _ in range(_MOST_PARTS):
        between = _BETWEEN.match(body, at)
        start = at if between is None else between.end()
        end = _value_end(body, start)
        if end <= start:
            break
        parts.append(_part(body, start, end))
        if _BEFORE_USER.search(body, start, min(end, start + _COMPARED_BYTES)) is None:
            break
        at = end
    return b"\n".join(parts)


def _part(body: bytes, start: int, end: int) -> bytes:
    return b"%d:" % (end - start) + body[start : min(end, start + _COMPARED_BYTES)]


def _value_end(body: bytes, at: int) -> int:
    """Return the offset after an object, array or string at `at`; -1 if there is none."""
    if at >= len(body) or body[at] not in b'{["':
        return -1
    skipper = ValueSkipper()
    skipper.start(body[at])
    return skipper.end_in(body, at + 1)
