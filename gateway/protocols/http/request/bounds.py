"""
How large the parts of a request may be, so that no walk over one takes long.

Bytes are no measure of the work: 32 MiB of text are walked in milliseconds, 32 MiB of `{},` in
minutes. What cannot be many because the body is small is not counted.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import whole_escapes
from gateway.protocols.codec.json_spans import count_elements, members

RELAYED_BYTES: Final = 4 * 1024 * 1024
TRANSLATED_BYTES: Final = 256 * 1024
"""Above these the parts of a body are counted: below, no walk over them takes long."""

_SLICE: Final = 64 * 1024
_VALUE_BYTES: Final = 64
_VALUE_ESCAPES: Final = 16
_MESSAGES: Final = frozenset({"messages", "input"})
_TOOLS: Final = frozenset({"tools", "functions"})


class RequestBounds(NamedTuple):
    """The operator's bounds on a request, see `settings.Server`."""

    max_members: int = 1024
    max_messages: int = 20_000
    max_tools: int = 4096
    max_values: int = 200_000


DEFAULT_BOUNDS: Final = RequestBounds()


def check_parts(body: bytes, bounds: RequestBounds) -> None:
    """
    Check the numbers of JSON values, messages and tools of a body.

    Raises:
        GatewayError: BAD_REQUEST: no JSON object, or beyond a bound; it names the member and the
            limit.
    """
    check_values(body, bounds.max_values)
    for name, start, end in members(body, most=bounds.max_members):
        if name in _MESSAGES:
            _check_list(name, body[start:end], bounds.max_messages)
        elif name in _TOOLS:
            _check_list(name, body[start:end], bounds.max_tools)


def check_values(body: bytes, most: int) -> None:
    """
    Check that a body holds at most so many JSON values, before anything is made of them.

    Raises:
        GatewayError: BAD_REQUEST, naming the limit.
    """
    if count_values(body, most) > most:
        message = f"The request body holds more than {most:,} JSON values."
        raise GatewayError(ErrorKind.BAD_REQUEST, message)


def count_values(body: bytes, most: int) -> int:
    """
    Return the elements, members, lists and objects of JSON text; any number above `most` if more.

    Counts commas and opening brackets outside strings, or one for every 64 bytes there, which may
    be white space, if that is more; and one for every 16 escapes in strings, which are as slow to
    read. Works in pieces, so that other threads run: about 3 ms a megabyte.
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
