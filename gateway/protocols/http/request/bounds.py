"""
Bounds the parts of a request, so that processing any of them takes bounded time.

The size in bytes does not bound the work: 32 MiB of text take milliseconds, 32 MiB of `{},` take
minutes. Parts of small bodies are not counted.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import whole_escapes
from gateway.protocols.codec.json_spans import count_elements, members

RELAYED_BYTES: Final = 4 * 1024 * 1024
TRANSLATED_BYTES: Final = 256 * 1024
"""Parts of larger bodies are counted; smaller ones are always fast to process."""

_SLICE: Final = 64 * 1024
_VALUE_BYTES: Final = 64
_VALUE_ESCAPES: Final = 16
_MESSAGES: Final = frozenset({"messages", "input"})
_TOOLS: Final = frozenset({"tools", "functions"})


class RequestBounds(NamedTuple):
    """Bounds on a request, see `settings.Server`."""

    max_members: int = 1024
    max_messages: int = 20_000
    max_tools: int = 4096
    max_values: int = 200_000


DEFAULT_BOUNDS: Final = RequestBounds()


def check_parts(body: bytes, bounds: RequestBounds) -> None:
    """
    Check the numbers of JSON values, members, messages and tools of a body.

    Raises:
        GatewayError: BAD_REQUEST: not a JSON object, or beyond a bound; the message names the
            member and the limit.
    """
    check_values(body, bounds.max_values)
    for name, start, end in members(body, most=bounds.max_members):
        if name in _MESSAGES:
            _check_list(name, body[start:end], bounds.max_messages)
        elif name in _TOOLS:
            _check_list(name, body[start:end], bounds.max_tools)


def check_values(body: bytes, most: int) -> None:
    """
    Check that a body contains at most `most` JSON values, before it is decoded.

    Raises:
        GatewayError: BAD_REQUEST, naming the limit.
    """
    if count_values(body, most) > most:
        message = f"The request body contains more than {most:,} JSON values."
        raise GatewayError(ErrorKind.BAD_REQUEST, message)


def count_values(body: bytes, most: int) -> int:
    """
    Return the number of values in JSON text; any number above `most` if there are more.

    Counts commas and opening brackets outside strings, at least one per 64 bytes there, which may
    be white space, and one per 16 escapes in strings, which are as slow to decode. Works in pieces,
    so that other threads can run: about 3 ms per megabyte.
    """
    found = at = inside = 0
    while at < len(body) and found <= most:
        piece = body[at : whole_escapes(body, at, at + _SLICE)]
        at += len(piece)
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(parts[inside::2])
        marks = outside.count(b",") + outside.count(b"{") + outside.count(b"[")
        found += max(marks, len(outside) // _VALUE_BYTES) + piece.count(b"\\") // _VALUE_ESCAPES
        inside = (inside + len(parts) - 1) % 2
    return found


def _check_list(name: str, value: bytes, most: int) -> None:
    if count_elements(value) > most:
        message = f"'{name}' has more than {most:,} elements."
        raise GatewayError(ErrorKind.BAD_REQUEST, message, param=name)
