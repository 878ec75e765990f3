"""
Locates the members of a JSON object in its bytes, so that values can be replaced in place.

msgspec splits an object into raw members in one fast pass, but reports no offsets, and keeps the
last of two members with the same name. The object is therefore walked from key to key; at each key
the raw value from msgspec is compared with the bytes there. If they are equal, its length leads to
the next key, at the speed of memcmp. A different value, or a name seen before, is a repeated name:
an error, since JSON parsers disagree on which of the two to use.

Text that msgspec rejects for a lone surrogate is walked in its repaired form, of equal length.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import decode_request, replace_lone_surrogates

T = TypeVar("T")

LONGEST_NAME: Final = 64
"""Characters of a client's member name that an error message quotes."""

_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_ARRAY: Final = msgspec.json.Decoder(list[Raw])
_NAME: Final = msgspec.json.Decoder(str)
_REENCODED_BYTES: Final = 4096
"""Up to this size, encoding an object again is faster than walking it."""
_encode: Final = msgspec.json.Encoder().encode
_format: Final = msgspec.json.format
_SPACE = rb"[ \t\r\n]*+"
# Possessive: a greedy group would keep backtracking state for every escape of a name.
_PLAIN = rb"[^\"\\]{0,4096}+"
_KEY = re.compile(
    rb"%b[{,]%b(\"%b(?:\\.%b){0,4096}+\")%b:%b" % (_SPACE, _SPACE, _PLAIN, _PLAIN, _SPACE, _SPACE),
    re.DOTALL,
)
_VALUE_ENDS = re.compile(rb"%b[,}]" % _SPACE)
_NEXT_ELEMENT = re.compile(rb"%b[\[,]%b" % (_SPACE, _SPACE))


class Member(NamedTuple):
    """A member of an object: its decoded name; its value is `text[start:end]`."""

    name: str
    start: int
    end: int


def members(text: bytes, path: str = "", most: int | None = None) -> list[Member]:
    """
    Return the members of the object in `text`, in order.

    Args:
        text: One JSON object.
        path: The object's path in the request, for errors.
        most: Most members allowed; None for any number.

    Raises:
        GatewayError: BAD_REQUEST: not JSON, not an object, two members of one name, or more than
            `most` members.
    """
    text, values = _decode(text, _OBJECT)
    _check_count(len(values), most, path)
    return _walked(text, values, path)


def unrepeated(text: bytes, path: str = "", most: int | None = None) -> dict[str, Raw]:
    """
    Return the values of the object in `text` by name, like `members` without offsets.

    Raises:
        GatewayError: BAD_REQUEST: as `members`.
    """
    text, values = _decode(text, _OBJECT)
    _check_count(len(values), most, path)
    if len(text) > _REENCODED_BYTES:
        _walked(text, dict(values), path)
        return values
    # If encoding the values again gives the same text, no name was repeated.
    again = _encode(values)
    if again != text and _format(again, indent=-1) != _format(text, indent=-1):
        _walked(text, dict(values), path)
    return values


def elements(text: bytes) -> list[tuple[int, int]]:
    """
    Return the (start, end) offsets of the elements of the array in `text`.

    Raises:
        GatewayError: BAD_REQUEST: not JSON, or not an array.
    """
    text, values = _decode(text, _ARRAY)
    found: list[tuple[int, int]] = []
    at = 0
    for value in values:
        comma = _NEXT_ELEMENT.match(text, at)
        assert comma is not None
        at = comma.end() + len(memoryview(value))
        found.append((comma.end(), at))
    return found


def count_elements(text: bytes) -> int:
    """Return the length of the array in `text`; 0 for anything else."""
    try:
        return len(_ARRAY.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0  # `decode_request` names the fault


def _walked(text: bytes, values: dict[str, Raw], path: str) -> list[Member]:
    """Return the members' offsets; empties `values`."""
    found: list[Member] = []
    at = 0
    while key := _KEY.match(text, at):
        name = _name(key[1])
        start = key.end()
        value = values.pop(name, None)
        if value is None:
            raise _repeated(name, path)
        at = start + len(memoryview(value))
        if not (text.startswith(bytes(value), start) and _VALUE_ENDS.match(text, at)):
            raise _repeated(name, path)  # msgspec kept a later one
        found.append(Member(name, start, at))
    if values:
        message = "A member name is longer than 4,096 characters."
        raise GatewayError(ErrorKind.BAD_REQUEST, message, param=path or None)
    return found


def _check_count(count: int, most: int | None, path: str) -> None:
    if most is not None and count > most:
        where = f"'{path}'" if path else "The request body"
        message = f"{where} has more than {most:,} members."
        raise GatewayError(ErrorKind.BAD_REQUEST, message, param=path or None)


def _repeated(name: str, path: str) -> GatewayError:
    name = name[:LONGEST_NAME]
    param = f"{path}.{name}" if path else name
    message = f"'{param}' occurs more than once in the request; send it once."
    return GatewayError(ErrorKind.BAD_REQUEST, message, param=param)


def _decode(text: bytes, decoder: msgspec.json.Decoder[T]) -> tuple[bytes, T]:
    """Return the text in the form that msgspec accepted, and its decoded value."""
    try:
        return text, decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        repaired = replace_lone_surrogates(text)
        return repaired, decode_request(repaired, decoder)


def _name(token: bytes) -> str:
    return _NAME.decode(token) if b"\\" in token else token[1:-1].decode()
