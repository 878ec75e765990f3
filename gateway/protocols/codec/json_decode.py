r"""
Decodes JSON of clients and upstreams, and repairs lone surrogates.

A program that cuts a UTF-16 string inside an emoji leaves a lone surrogate, such as `\ud83d`. That
is legal JSON text, and agents resend it on every turn, but msgspec rejects it even in members that
it skips. What msgspec rejects is therefore decoded a second time: requests and complete responses
with each lone surrogate replaced by `\ufffd`, which has the same length, so that offsets into the
original stay valid; stream events with surrogates kept, because the other half may arrive with the
next delta (`SurrogateJoiner`).

Every failure is a `GatewayError`, also nesting beyond the limit of `codec.nesting`, which is below
what msgspec, the standard library and the walks over decoded values accept.
"""

from __future__ import annotations

import json
import re
from typing import Final, TypeVar

import msgspec

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.nesting import SHALLOW_BYTES, TOO_DEEP, is_deep, refuse_deep

T = TypeVar("T")

BOM: Final = b"\xef\xbb\xbf"
"""Some programs write it before JSON, where it is no white space."""

_HIGH = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE = re.compile(rb"%b(?!%b)|%b(?<!%b%b)" % (_HIGH, _LOW, _LOW, _HIGH, _LOW))
_ESCAPE_BYTES: Final = 6
_STEP: Final = 256 * 1024
"""Bytes searched at a time, since a search holds the GIL."""
_HALF_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]|([\ud800-\udfff])")
_PATH = re.compile(r"^(.*?)(?: - at `\$(.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(.*)`$")
_EXPECTED = re.compile(r"^Expected `(.*)`, got `(.*)`$")
_RANGE = re.compile(r"^Expected `(.*)` (>=|>|<=|<) (.*)$")
_INDEX = re.compile(r"\[(.*?)\]")
_TYPE_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


class _AnyObject(msgspec.Struct, gc=False):
    """Any JSON object, decoded without allocating its values."""


_OBJECT: Final = msgspec.json.Decoder(_AnyObject)
_STRING: Final = msgspec.json.Decoder(str)


def decode_request(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """
    Return a client's body as the decoder's type; lone surrogates become U+FFFD.

    Raises:
        GatewayError: BAD_REQUEST: the message names the field and the expected type; `param` is the
            field, such as `messages.0.content`.
    """
    if len(body) > SHALLOW_BYTES:
        refuse_deep(body)
    return decode_shallow(body, decoder)


def decode_shallow(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Return as `decode_request` what is part of a body whose depth is known to be allowed."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    except UnicodeDecodeError as error:
        message = "The request body is not valid UTF-8."
        raise GatewayError(ErrorKind.BAD_REQUEST, message) from error
    except msgspec.DecodeError as error:
        repaired = replace_lone_surrogates(body)
        if repaired == body:
            raise _not_json(body, error) from error
    return decode_shallow(repaired, decoder)


def decode_response(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """
    Return an upstream's response body as the decoder's type; lone surrogates become U+FFFD.

    Raises:
        GatewayError: UPSTREAM_MALFORMED.
    """
    if len(body) > SHALLOW_BYTES and is_deep(body):
        raise _malformed(TOO_DEEP)
    try:
        return decoder.decode(body)
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _malformed(error) from error
    except msgspec.DecodeError as error:
        repaired = replace_lone_surrogates(body)
        if repaired == body:
            raise _malformed(error) from error
    return decode_response(repaired, decoder)


def decode_event(data: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    """
    Return a stream event's data as the decoder's type; lone surrogates are kept.

    An event with lone surrogates can only be decoded to types without `msgspec.Raw` members.

    Returns:
        None for events to ignore: no data, or JSON that is not an object.

    Raises:
        GatewayError: UPSTREAM_MALFORMED.
    """
    if len(data) > SHALLOW_BYTES and is_deep(data):
        raise _malformed(TOO_DEEP)
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        if data.lstrip()[:1] != b"{":
            return None
        raise _malformed(error) from error
    except UnicodeDecodeError as error:
        raise _malformed(error) from error
    except msgspec.DecodeError as error:
        if not data.strip():
            return None
        if replace_lone_surrogates(data) == data:
            raise _malformed(error) from error
    return _decode_event_loosely(data, decoder)


def decode_or_none(text: bytes | str, decoder: msgspec.json.Decoder[T]) -> T | None:
    """Return JSON as the decoder's type; None if it is something else, or nested too deeply."""
    if len(text) > SHALLOW_BYTES and is_deep(text):
        return None
    try:
        return decoder.decode(text)
    except ValueError:  # includes DecodeError and UnicodeError
        return None


def is_object(text: str) -> bool:
    """Return whether `text` is a JSON object."""
    return decode_or_none(text, _OBJECT) is not None


def replace_lone_surrogates(text: bytes) -> bytes:
    r"""Return JSON text of the same length with lone surrogate escapes replaced by `\ufffd`."""
    if b"\\ud" not in text and b"\\uD" not in text:
        return text
    if b"\0" in text:
        return text  # not JSON
    # Hide escaped backslashes, so that every remaining backslash begins an escape.
    plain = _replaced(text, b"\\\\", b"\0\0")
    repaired = b"".join(_repaired(plain, start) for start in range(0, len(plain), _STEP))
    return _replaced(repaired, b"\0\0", b"\\\\")


def whole_escapes(text: bytes, start: int, end: int) -> int:
    """Return `end`, or `end - 1` if `end` would split an escape; `start` must not split one."""
    return _before_pair(text, start, end, b"\\")


def _before_pair(text: bytes, start: int, end: int, half: bytes) -> int:
    """Return `end`, or `end - 1` if `end` would split a pair of `half` bytes."""
    if end >= len(text):
        return len(text)
    piece = text[start:end]
    return end - (len(piece) - len(piece.rstrip(half))) % 2


def _replaced(text: bytes, pair: bytes, other: bytes) -> bytes:
    """Replace a pair of equal bytes in pieces, since `replace` holds the GIL."""
    changed: list[bytes] = []
    at = 0
    while at < len(text):
        end = _before_pair(text, at, at + _STEP, pair[:1])
        changed.append(text[at:end].replace(pair, other))
        at = end
    return b"".join(changed)


def _repaired(plain: bytes, start: int) -> bytes:
    """Return a piece without lone surrogates, matched with its surroundings."""
    around = 4 * _ESCAPE_BYTES
    first = max(start - around, 0)
    piece = _LONE.sub(rb"\\ufffd", plain[first : start + _STEP + around])
    return piece[start - first : start - first + _STEP]


class SurrogateJoiner:
    """
    Joins surrogate pairs that are split across pieces of text; one per channel of a stream.

    A high surrogate at the end of a piece is held back until the next piece; lone surrogates become
    U+FFFD. The result can always be encoded as UTF-8.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return the text so far; at most one surrogate is held back."""
        if not self._held and text.isascii():
            return text
        text = self._held + text
        self._held = ""
        if "\ud800" <= text[-1:] <= "\udbff":
            self._held = text[-1]
            text = text[:-1]
        return join_surrogates(text)

    def flush(self) -> str:
        """Return U+FFFD if a surrogate was held back, else the empty string."""
        held, self._held = self._held, ""
        return "\ufffd" if held else ""


def join_surrogates(text: str) -> str:
    """Return `text` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _HALF_PAIR.sub(_join_pair, text)
    return text


def _join_pair(found: re.Match[str]) -> str:
    if found[1]:
        return "\ufffd"
    return found[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _decode_event_loosely(data: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    try:
        value = json.loads(data.decode())
        return msgspec.convert(value, decoder.type) if isinstance(value, dict) else None
    except ValueError as error:  # includes ValidationError
        raise _malformed(error) from error


def _malformed(error: Exception | str) -> GatewayError:
    return GatewayError(
        ErrorKind.UPSTREAM_MALFORMED, "Upstream sent malformed data", detail=str(error)
    )


def _not_json(body: bytes, error: Exception) -> GatewayError:
    if not body.strip():
        message = "The request body is empty; send a JSON object."
    else:
        reason = str(error).removeprefix("JSON is malformed: ").removesuffix(".")
        message = f"The request body is not valid JSON: {reason}."
    return GatewayError(ErrorKind.BAD_REQUEST, message)


def _invalid(error: msgspec.ValidationError) -> GatewayError:
    """Return msgspec's error in the API's wording: a missing field, a type or a range."""
    found = _PATH.match(str(error))
    reason, path = (found[1], found[2] or "") if found else (str(error), "")
    if missing := _MISSING.match(reason):
        param = _param(f"{path}.{missing[1]}")
        message = f"Missing required parameter: '{param}'."
        return GatewayError(ErrorKind.BAD_REQUEST, message, param=param)
    reason = _reason(reason)
    if not path:
        return GatewayError(ErrorKind.BAD_REQUEST, f"Invalid request body: {reason}.")
    param = _param(path)
    return GatewayError(
        ErrorKind.BAD_REQUEST, f"Invalid value for '{param}': {reason}.", param=param
    )


def _reason(reason: str) -> str:
    if expected := _EXPECTED.match(reason):
        return f"expected {_type_name(expected[1])}, got {_type_name(expected[2])}"
    if bounds := _RANGE.match(reason):
        return f"expected {_type_name(bounds[1])} {bounds[2]} {bounds[3]}"
    return reason[:1].lower() + reason[1:]


def _type_name(name: str) -> str:
    return " or ".join(_TYPE_NAMES.get(part, part) for part in name.split(" | "))


def _param(path: str) -> str:
    """Return `.messages[0].content` as `messages.0.content`."""
    return _INDEX.sub(r".\1", path).lstrip(".")


def quoted_object(raw: bytes) -> bytes | None:
    """Return the JSON object in a JSON string; None: the string is something else."""
    text = decode_or_none(raw, _STRING)
    return text.encode() if text is not None and is_object(text) else None
