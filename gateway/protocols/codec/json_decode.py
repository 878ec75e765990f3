r"""
Reading JSON that others wrote: requests, answers, stream events; and making half emoji whole.

A program that cuts a UTF-16 string inside an emoji leaves half of a surrogate pair, `\ud83d`
without its partner. That is legal JSON text, agents resend it on every turn, but msgspec refuses it
even in members it only skips. So what msgspec refuses is tried a second time: requests and whole
answers with each lone half replaced by `\ufffd` (same length, so offsets into the original stay
true, and numbers and raw members keep their bytes); stream events with the halves kept, because the
partner may come with the next delta (`SurrogateJoiner`).

Every failure is a `GatewayError`; levels of nesting beyond what msgspec can walk (about 1,000; 200
always work) are one too.
"""

from __future__ import annotations

import json
import re
from typing import Final, TypeVar

import msgspec

from gateway.errors import ErrorKind, GatewayError

T = TypeVar("T")

TOO_DEEP: Final = "JSON is nested too deeply"

_HIGH = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE = re.compile(rb"%b(?!%b)|%b(?<!%b%b)" % (_HIGH, _LOW, _LOW, _HIGH, _LOW))
_ESCAPE_BYTES: Final = 6
_STEP: Final = 256 * 1024
"""Bytes searched at once: a search holds the interpreter's lock."""
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


def decode_request(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """
    Return a client's body as the decoder's type; lone surrogates become U+FFFD.

    Raises:
        GatewayError: BAD_REQUEST; the message names the field and what it must be, `param` the
            field as `messages.0.content`.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    except RecursionError as error:
        raise GatewayError(ErrorKind.BAD_REQUEST, TOO_DEEP) from error
    except UnicodeDecodeError as error:
        message = "The request body is not valid UTF-8."
        raise GatewayError(ErrorKind.BAD_REQUEST, message) from error
    except msgspec.DecodeError as error:
        mended = replace_lone_surrogates(body)
        if mended == body:
            raise _not_json(body, error) from error
    return decode_request(mended, decoder)


def decode_response(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """
    Return an upstream's whole answer as the decoder's type; lone surrogates become U+FFFD.

    Raises:
        GatewayError: UPSTREAM_MALFORMED.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _malformed(error) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error
    except msgspec.DecodeError as error:
        mended = replace_lone_surrogates(body)
        if mended == body:
            raise _malformed(error) from error
    return decode_response(mended, decoder)


def decode_event(data: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    """
    Return a stream event's data as the decoder's type, lone surrogates kept for `SurrogateJoiner`.

    Only a type without `msgspec.Raw` members can be read from an event with lone surrogates.

    Returns:
        None for what is to be ignored: no data, or JSON that is not an object.

    Raises:
        GatewayError: UPSTREAM_MALFORMED.
    """
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        if data.lstrip()[:1] != b"{":
            return None
        raise _malformed(error) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error
    except msgspec.DecodeError as error:
        if not data.strip():
            return None
        if replace_lone_surrogates(data) == data:
            raise _malformed(error) from error
    return _decode_event_loosely(data, decoder)


def replace_lone_surrogates(text: bytes) -> bytes:
    r"""Return JSON text with each lone surrogate escape replaced by `\ufffd`: the same length."""
    if b"\\ud" not in text and b"\\uD" not in text:
        return text
    if b"\0" in text:
        return text  # no JSON
    # Escaped backslashes are put away, so that every backslash left begins an escape.
    plain = _replaced(text, b"\\\\", b"\0\0")
    mended = b"".join(_mended(plain, start) for start in range(0, len(plain), _STEP))
    return _replaced(mended, b"\0\0", b"\\\\")


def whole_escapes(text: bytes, start: int, end: int) -> int:
    """Return `end`, or the byte before it where it would cut an escape; `start` cuts none."""
    return _before_pair(text, start, end, b"\\")


def _before_pair(text: bytes, start: int, end: int, half: bytes) -> int:
    """Return `end`, or the byte before it where it would cut a pair of `half`s in two."""
    if end >= len(text):
        return len(text)
    piece = text[start:end]
    return end - (len(piece) - len(piece.rstrip(half))) % 2


def _replaced(text: bytes, pair: bytes, other: bytes) -> bytes:
    """Replace a pair of equal bytes by another, piece by piece: a replace holds the GIL."""
    changed: list[bytes] = []
    at = 0
    while at < len(text):
        end = _before_pair(text, at, at + _STEP, pair[:1])
        changed.append(text[at:end].replace(pair, other))
        at = end
    return b"".join(changed)


def _mended(plain: bytes, start: int) -> bytes:
    """Return a piece without lone halves, judged with what stands around it."""
    around = 4 * _ESCAPE_BYTES
    first = max(start - around, 0)
    piece = _LONE.sub(rb"\\ufffd", plain[first : start + _STEP + around])
    return piece[start - first : start - first + _STEP]


class SurrogateJoiner:
    """
    Makes half emoji whole in text that comes in pieces; one for each channel of a stream.

    A high half at a piece's end waits for the next piece; a half without partner becomes U+FFFD.
    What is returned can always be encoded as UTF-8.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what can be said so far; at most one half is held back."""
        if not self._held and text.isascii():
            return text
        text = self._held + text
        self._held = ""
        if "\ud800" <= text[-1:] <= "\udbff":
            self._held = text[-1]
            text = text[:-1]
        return join_surrogates(text)

    def flush(self) -> str:
        """Return U+FFFD for a half still waiting, else nothing."""
        held, self._held = self._held, ""
        return "\ufffd" if held else ""


def join_surrogates(text: str) -> str:
    """Return `text` with adjacent surrogate halves joined and lone ones replaced by U+FFFD."""
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
    except (ValueError, RecursionError) as error:  # ValidationError is a ValueError, too
        raise _malformed(error) from error


def _malformed(error: Exception) -> GatewayError:
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
    """Say in the public API's words what msgspec found: a missing field, a type or a range."""
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
