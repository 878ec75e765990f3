"""
Where the members of a JSON object stand in its bytes, so that one value can be replaced in place.

Theory. msgspec splits an object into raw members in one fast pass, but does not say where they
stand, and of two members with the same name it keeps the last. So the object is walked from key to
key, and at each key the raw value that msgspec found is compared with the bytes that stand there:
equal means that its length leads to the next key, at the speed of memcmp. Only where they differ
(a name that occurs twice) are brackets counted.

What msgspec refuses for a lone surrogate is walked in its mended form, which has equal length.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeVar

import msgspec

from gateway.protocols.codec.json_decode import decode_request, mend_surrogates

T = TypeVar("T")

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_NAME: Final = msgspec.json.Decoder(str)
_SPACE = rb"[ \t\r\n]*"
_KEY = re.compile(
    rb"%b[{,]%b(\"[^\"\\]*(?:\\.[^\"\\]*)*\")%b:%b" % (_SPACE, _SPACE, _SPACE, _SPACE), re.DOTALL
)
_TOKEN = re.compile(rb"\"[^\"\\]*(?:\\.[^\"\\]*)*\"|[{}\[\]]|[^\s\"{}\[\],:]+", re.DOTALL)
_VALUE_ENDS = re.compile(rb"%b[,}]" % _SPACE)
_NEXT_ELEMENT = re.compile(rb"%b[\[,]%b" % (_SPACE, _SPACE))


class Member(NamedTuple):
    """A member of an object: its decoded name, and its value as `text[start:end]`."""

    name: str
    start: int
    end: int


def members(text: bytes) -> list[Member]:
    """
    Return the members of the object in `text` in their order, repeated names repeated.

    Raises:
        GatewayError: BAD_REQUEST, not JSON or not an object.
    """
    text, values = _decode(text, _OBJECT)
    found: list[Member] = []
    at = 0
    while key := _KEY.match(text, at):
        name = _name(key[1])
        start = key.end()
        at = _value_end(text, start, bytes(values[name]))
        found.append(Member(name, start, at))
    return found


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
        at = comma.end() + len(bytes(value))
        found.append((comma.end(), at))
    return found


def _decode(text: bytes, decoder: msgspec.json.Decoder[T]) -> tuple[bytes, T]:
    """Return what `text` holds, and the form of it that msgspec accepted."""
    try:
        return text, decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        mended = mend_surrogates(text)
        return mended, decode_request(mended, decoder)


def _name(token: bytes) -> str:
    return _NAME.decode(token) if b"\\" in token else token[1:-1].decode()


def _value_end(text: bytes, start: int, value: bytes) -> int:
    end = start + len(value)
    if text.startswith(value, start) and _VALUE_ENDS.match(text, end):
        return end
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if (mark := token[0]) in (b"{", b"["):
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
        if not depth:
            return token.end()
    return len(text)
