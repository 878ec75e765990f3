"""
Where the members of a JSON object stand in its bytes, so that one value can be replaced in place.

Theory. msgspec splits an object into raw members in one fast pass, but does not say where they
stand, and of two members with the same name it keeps the last. So the object is walked from key to
key, and at each key the raw value that msgspec found is compared with the bytes that stand there:
equal means that its length leads to the next key, at the speed of memcmp. A value that differs, or
a name that was met before, is a repeated name. Readers of JSON disagree which of the two counts, so
no reader of requests may choose: it is an error here, found after one pass at most.

What msgspec refuses for a lone surrogate is walked in its mended form, which has equal length.
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
"""Characters of a client's member name that an error message repeats."""

_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_ARRAY: Final = msgspec.json.Decoder(list[Raw])
_NAME: Final = msgspec.json.Decoder(str)
_WRITTEN_AGAIN: Final = 4096
"""Bytes up to which an object is faster written again than walked."""
_encode: Final = msgspec.json.Encoder().encode
_format: Final = msgspec.json.format
_SPACE = rb"[ \t\r\n]*+"
# Possessive: a greedy group keeps a state for every escape of a name, 100 bytes for two.
_PLAIN = rb"[^\"\\]{0,4096}+"
_KEY = re.compile(
    rb"%b[{,]%b(\"%b(?:\\.%b){0,4096}+\")%b:%b" % (_SPACE, _SPACE, _PLAIN, _PLAIN, _SPACE, _SPACE),
    re.DOTALL,
)
_VALUE_ENDS = re.compile(rb"%b[,}]" % _SPACE)
_NEXT_ELEMENT = re.compile(rb"%b[\[,]%b" % (_SPACE, _SPACE))


class Member(NamedTuple):
    """A member of an object: its decoded name, and its value as `text[start:end]`."""

    name: str
    start: int
    end: int


def members(text: bytes, path: str = "", most: int | None = None) -> list[Member]:
    """
    Return the members of the object in `text` in their order.

    Args:
        text: One JSON object.
        path: Where it stands in the request, for errors.
        most: Members that it may have; None: any number.

    Raises:
        GatewayError: BAD_REQUEST: not JSON, not an object, two members of one name, or more than
            `most` members.
    """
    text, values = _decode(text, _OBJECT)
    _check_count(len(values), most, path)
    return _walked(text, values, path)


def unrepeated(text: bytes, path: str = "", most: int | None = None) -> dict[str, Raw]:
    """
    Return the values of the object in `text` by name; as `members`, cheaper for small objects.

    Raises:
        GatewayError: BAD_REQUEST: as `members`.
    """
    text, values = _decode(text, _OBJECT)
    _check_count(len(values), most, path)
    if len(text) > _WRITTEN_AGAIN:
        _walked(text, dict(values), path)
        return values
    # Written again from its values it is the same: nothing was left out, so no name came twice.
    again = _encode(values)
    if again != text and _format(again, indent=-1) != _format(text, indent=-1):
        _walked(text, dict(values), path)
    return values


def elements(text: bytes) -> list[tuple[int, int]]:
    """
    Return where the elements of the array in `text` stand, as (start, end).

    Raises:
        GatewayError: BAD_REQUEST, not JSON or not an array.
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
        return 0


def _walked(text: bytes, values: dict[str, Raw], path: str) -> list[Member]:
    """Return where the members stand; `values` is used up."""
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
        message = "The name of a member is longer than 4,096 characters."
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
    message = f"'{param}' stands more than once in the request; send it once."
    return GatewayError(ErrorKind.BAD_REQUEST, message, param=param)


def _decode(text: bytes, decoder: msgspec.json.Decoder[T]) -> tuple[bytes, T]:
    """Return what `text` holds, and the form of it that msgspec accepted."""
    try:
        return text, decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        mended = replace_lone_surrogates(text)
        return mended, decode_request(mended, decoder)


def _name(token: bytes) -> str:
    return _NAME.decode(token) if b"\\" in token else token[1:-1].decode()
