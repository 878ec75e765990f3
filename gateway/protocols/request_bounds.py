"""
How large the parts of a request may be, so that no walk over one takes long.

Bytes are no measure of the work: 32 MiB of text are walked in milliseconds, 32 MiB of `{},` in
minutes. What cannot be many because the body is small is not counted.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_spans import count_elements

COUNTED_BYTES: Final = 1024 * 1024
"""Lists in smaller bodies are not counted: they cannot be long enough to matter."""

RELAYED_BYTES: Final = 4 * 1024 * 1024
TRANSLATED_BYTES: Final = 256 * 1024
"""Above these the values of a body are counted before anything is made of them."""

_SLICE: Final = 64 * 1024
_MESSAGES: Final = frozenset({"messages", "input"})
_TOOLS: Final = frozenset({"tools", "functions"})
LISTS: Final = _MESSAGES | _TOOLS


class RequestBounds(NamedTuple):
    """The operator's bounds on a request, see `settings.Server`."""

    max_members: int = 1024
    max_messages: int = 20_000
    max_tools: int = 4096
    max_values: int = 200_000


DEFAULT_BOUNDS: Final = RequestBounds()


def check_list(name: str, value: bytes, bounds: RequestBounds) -> None:
    """
    Check the length of one of `LISTS`, in a body above `COUNTED_BYTES`.

    Args:
        name: The top-level member's.
        value: Its JSON.
        bounds: The limits.

    Raises:
        GatewayError: BAD_REQUEST, naming the member and the limit.
    """
    most = bounds.max_messages if name in _MESSAGES else bounds.max_tools
    # Each element that stands for work is an object, so few braces need no closer look.
    if value.count(b"{") <= most or value[:1] != b"[":
        return
    if count_elements(value) > most:
        message = f"'{name}' has more than {most:,} elements."
        raise GatewayError(ErrorKind.BAD_REQUEST, message, param=name)


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

    Counts commas and opening brackets outside strings, in pieces, so that other threads run: about
    3 ms a megabyte.
    """
    found = at = inside = 0
    while at < len(body) and found <= most:
        piece = body[at : at + _SLICE]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2 and len(piece) == _SLICE:
            piece = piece[:-1]  # an escape is not cut in two
        at += len(piece)
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(parts[inside::2])
        found += outside.count(b",") + outside.count(b"{") + outside.count(b"[")
        inside = (inside + len(parts) - 1) % 2
    return found
