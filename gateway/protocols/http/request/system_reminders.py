"""Converts system messages within a conversation for Messages endpoints that reject that role."""

from __future__ import annotations

from typing import Final

from gateway.protocols.codec.json_spans import elements, members

_SYSTEM: Final = b'"system"'
_SPACE: Final = b" \t\r\n"
_NEAR_BYTES: Final = 256
"""Bytes in which the name `role` is looked for; it may be behind more white space."""
_MOST_SEEN: Final = 256
"""A body with the string more often may contain such messages: looking at each takes too long."""
_OPEN: Final = b"<system-reminder>\\n"
_CLOSE: Final = b"\\n</system-reminder>"
_OPEN_BLOCK: Final = b'{"type":"text","text":"<system-reminder>"}'
_CLOSE_BLOCK: Final = b'{"type":"text","text":"</system-reminder>"}'


def has_system_messages(body: bytes) -> bool:
    """Return whether a Messages request may contain messages of the role `system`."""
    # `find` of five bytes is several times as fast as a regular expression.
    at = body.find(_SYSTEM[:5])
    seen = 0
    while at >= 0:
        if body.startswith(_SYSTEM, at):
            seen += 1
            if seen > _MOST_SEEN:
                return True
            before = body[max(at - _NEAR_BYTES, 0) : at].rstrip(_SPACE)
            name = before.removesuffix(b":").rstrip(_SPACE)
            if not name or (name.endswith(b'"role"') and len(name) < len(before)):
                return True
        at = body.find(_SYSTEM[:5], at + 1)
    return False


def with_system_reminders(body: bytes) -> bytes:
    """
    Return a Messages request with each system message as a user's `<system-reminder>`.

    A reminder between an assistant's and a user's message follows the latter, which may hold the
    results of tools. Other messages and members keep their bytes, but not the white space between
    messages; `body` itself is returned if there is no system message.

    Raises:
        GatewayError: BAD_REQUEST: the body is not JSON.
    """
    if not has_system_messages(body):
        return body
    for name, start, end in members(body):
        if name == "messages" and body[start : start + 1] == b"[":
            messages = body[start:end]
            replaced = _replaced(messages)
            return body if replaced is messages else body[:start] + replaced + body[end:]
    return body


def _replaced(messages: bytes) -> bytes:
    written: list[bytes] = []
    waiting: list[bytes] = []
    before = ""
    changed = False
    for start, end in elements(messages):
        message = messages[start:end]
        role = _role(message)
        if role == "system":
            changed = True
            (waiting if before == "assistant" else written).append(_reminder(message))
            continue
        if role != "user":
            written += waiting
            waiting = []
        written.append(message)
        written += waiting
        waiting = []
        before = role
    written += waiting
    return b"[%b]" % b",".join(written) if changed else messages


def _role(message: bytes) -> str:
    if message[:1] != b"{":
        return ""
    for name, start, end in members(message):
        if name == "role":
            return message[start:end].decode().strip('"')
    return ""


def _reminder(message: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    for name, start, end in members(message):
        if name == "role":
            parts += (message[at:start], b'"user"')
            at = end
        elif name == "content":
            parts += (message[at:start], _content(message[start:end]))
            at = end
    return b"".join((*parts, message[at:]))


def _content(content: bytes) -> bytes:
    if content[:1] == b'"':
        return b'"%b%b%b"' % (_OPEN, content[1:-1], _CLOSE)
    if content[:1] != b"[":
        return content
    blocks = [content[start:end] for start, end in elements(content)]
    return b"[%b]" % b",".join((_OPEN_BLOCK, *blocks, _CLOSE_BLOCK))
