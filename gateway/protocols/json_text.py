"""
JSON bodies of callers, decoded without trusting them.

Two things that parsers disagree about are settled here. Nesting beyond what the decoder can follow
is the caller's mistake, not ours. Half of a surrogate pair (`\\ud83d` without its partner) is legal
JSON text that agents resend on every turn after a program cut an emoji in two; msgspec refuses it,
so such a body is rewritten first, the half becoming U+FFFD.
"""

from __future__ import annotations

import json
from typing import Final, NoReturn

import msgspec

from gateway.errors import ErrorKind, GatewayError

_ANY: Final = msgspec.json.Decoder()


def decode_object(body: bytes) -> dict[str, object]:
    """
    Return a request body as a JSON object.

    Raises:
        GatewayError: BAD_REQUEST: no JSON, not an object, or nested too deeply.
    """
    value = decode_value(body)
    if not isinstance(value, dict):
        raise GatewayError(ErrorKind.BAD_REQUEST, "The request body must be a JSON object.")
    return value


def decode_value(body: bytes) -> object:
    """
    Return any JSON value, lone surrogates replaced.

    Raises:
        GatewayError: BAD_REQUEST: no JSON, or nested too deeply.
    """
    try:
        return _ANY.decode(body)
    except msgspec.DecodeError:
        return _ANY.decode(mended(body))
    except RecursionError as error:
        raise _too_deep() from error


def mended(body: bytes) -> bytes:
    """
    Return the same JSON without lone surrogates: halves that meet are joined, others are U+FFFD.

    For a body that msgspec refused. Numbers keep their value, not always their spelling.

    Raises:
        GatewayError: BAD_REQUEST: it is no JSON for the standard library either.
    """
    try:
        text = json.dumps(json.loads(body, parse_constant=_no_number), ensure_ascii=False)
    except ValueError as error:
        raise GatewayError(
            ErrorKind.BAD_REQUEST, f"The request body is not valid JSON: {_reason(error)}"
        ) from error
    except RecursionError as error:
        raise _too_deep() from error
    return paired(text).encode()


def paired(text: str) -> str:
    """Return `text` with the halves of surrogate pairs joined and lone ones as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at position {error.pos}."
    return "it is not UTF-8." if isinstance(error, UnicodeDecodeError) else f"{error}."


def _too_deep() -> GatewayError:
    return GatewayError(ErrorKind.BAD_REQUEST, "The request body is nested too deeply.")
