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
from gateway.core.routing.affinity import hash32
from gateway.protocols.codec.json_skip import ValueSkipper
from gateway.protocols.http.request.call_fields import CallFields

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
"""Bytes that are hashed of each part, with its length unless it is the user's."""
_MOST_PARTS: Final = 8
_MESSAGES: Final = re.compile(rb'"messages"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*')
_ARRAY: Final = re.compile(rb"\[[ \t\r\n]*")
_BEFORE_USER: Final = re.compile(rb'"role"[ \t\r\n]*:[ \t\r\n]*"(?:system|developer)"')
# The start of a user's message as SDKs write it: such a message need not be searched for its role.
_USER: Final = (b'{"role":"user"', b'{"role": "user"')
_SYSTEMS: Final = (b'{"role":"system"', b'{"role": "system"')
_FLAT_OBJECT: Final = re.compile(rb'\{(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+\}', re.DOTALL)
"""An object of scalars, such as a message of plain text; found in one pass."""
_TEXT: Final = rb'"(?:[^"\\]++|\\.)*+"'
_STRING: Final = re.compile(_TEXT, re.DOTALL)
_SYSTEM: Final = re.compile(
    rb'"system"[ \t\r\n]*:[ \t\r\n]*(?:(' + _TEXT + rb')|(?=["\[]))', re.DOTALL
)
_CONTENT: Final = rb"(?:" + _TEXT + rb'|\[\{"type": ?"text", ?"text": ?' + _TEXT + rb"\}\])"
_PLAIN_SYSTEM: Final = rb'\{"role": ?"(?:system|developer)", ?"content": ?' + _CONTENT + rb"\}, ?"
_PLAIN_USER: Final = rb'\{"role": ?"user", ?"content": ?' + _CONTENT + rb"\}"
_PLAIN: Final = re.compile(rb"(?:" + _PLAIN_SYSTEM + rb"){0,7}+" + _PLAIN_USER, re.DOTALL)
"""The whole beginning, where it is plain text as SDKs write it."""
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
            return hash32(value[:_COMPARED_BYTES])
    named = fields.prompt_cache_key or fields.user_id
    if named:
        return hash32(named[:_COMPARED_BYTES].encode("utf-8", "surrogatepass"))
    return _beginning(fields, wire, body)


def _beginning(fields: CallFields, wire: Wire, body: bytes) -> int | None:
    """Return the hash of the system prompts and the first other message."""
    found = 0
    system = _system_span(fields, body) if wire is Wire.ANTHROPIC else None
    if system is not None:
        found = _hashed(body, *system, found)
    at = _messages_start(fields, body)
    if at is None:
        return found or None
    if body.find(b"}", at, at + _COMPARED_BYTES) >= 0:
        # The common case takes a fifth of the time of the walk below.
        plain = _PLAIN.match(body, at, at + _COMPARED_BYTES)
        if plain is not None:
            return hash32(plain[0], found)
    for _ in range(_MOST_PARTS):
        if body.startswith(_USER, at):
            return hash32(_beginning_of_object(body, at), found)
        end = _value_end(body, at)
        if end <= at:
            break
        found = _hashed(body, at, end, found)
        if not (
            body.startswith(_SYSTEMS, at)
            or _BEFORE_USER.search(body, at, min(end, at + _COMPARED_BYTES))
        ):
            break
        between = _BETWEEN.match(body, end)
        at = end if between is None else between.end()
    return found or None


def _system_span(fields: CallFields, body: bytes) -> tuple[int, int] | None:
    """Return where the system prompt of a Messages call is."""
    if fields.member_spans is not None:
        start, end = fields.member_spans.get("system", (0, 0))
        return (start, end) if body[start : start + 1] in (b'"', b"[") else None  # it may be null
    system = _SYSTEM.search(body)
    if system is None:
        return None
    start, end = system.span(1)
    return (start, end) if start >= 0 else (system.end(), _value_end(body, system.end()))


def _messages_start(fields: CallFields, body: bytes) -> int | None:
    """Return where the first message is."""
    if fields.member_spans is None:
        messages = _MESSAGES.search(body)
    else:
        start, end = fields.member_spans.get("messages", (0, 0))
        messages = _ARRAY.match(body, start, end)
    return None if messages is None else messages.end()


def _hashed(body: bytes, start: int, end: int, before: int) -> int:
    if end - start <= _COMPARED_BYTES:
        return hash32(body[start:end], before)
    return hash32(body[start : start + _COMPARED_BYTES], before ^ (end - start))


def _beginning_of_object(body: bytes, at: int) -> bytes:
    """Return the object at `at`, or the beginning of a long one, whose end is not searched."""
    beginning = body[at : at + _COMPARED_BYTES]
    end = _value_end(beginning, 0) if b"}" in beginning else -1
    return beginning if end < 0 else beginning[:end]


def _value_end(body: bytes, at: int) -> int:
    """Return the offset after an object, array or string at `at`; -1 if there is none."""
    flat = _FLAT_OBJECT.match(body, at, at + _COMPARED_BYTES)
    if flat is not None:
        return flat.end()
    if at >= len(body) or body[at] not in b'{["':
        return -1
    text = _STRING.match(body, at, at + _COMPARED_BYTES)
    if text is not None:
        return text.end()
    skipper = ValueSkipper()
    skipper.start(body[at])
    return skipper.end_in(body, at + 1)
