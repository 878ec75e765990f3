"""What a request to a page asks for: the query string and the JSON body, checked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.core import calendar
from gateway.core.money import read_dollars
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.channel import ClientChannel

BODY_TIMEOUT_S = 10.0
MAX_BODY_BYTES = 64 * 1024
MAX_TEXT = 500
"""Characters of names, notes and reasons."""
MAX_PARAMETERS = 100
"""Of one query string."""
_MAX_FIELD_BYTES = 8192
"""One parameter, percent-encoded: `MAX_TEXT` characters of UTF-8 take at most 6,000."""
_SHOWN_NAME = 100

Shape = TypeVar("Shape")
_AT = re.compile(r"at `\$\.?([^`]*)`")
_FIELD = re.compile(r"field `([^`]+)`")
_LONGEST_NUMBER = 15
"""Digits."""


class Query:
    """
    The query string of one request.

    Args:
        channel: The request.
        known: Names it may hold.

    Raises:
        GatewayError: BAD_REQUEST for another name, or one that is there twice.
    """

    def __init__(self, channel: ClientChannel, known: Collection[str]) -> None:
        self._values: dict[str, str] = {}
        for name, value in read_query(channel.scope["query_string"]):
            if name not in known:
                allowed = ", ".join(sorted(known)) or "none"
                raise bad(name, f"'{name}' is not a parameter of this path; allowed: {allowed}.")
            if name in self._values:
                raise bad(name, f"'{name}' is given twice.")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """Return a value; None when it is absent or empty."""
        value = self._values.get(name) or None
        if value is not None and not (value.isprintable() and len(value) <= MAX_TEXT):
            raise bad(name, f"'{name}' must be at most {MAX_TEXT} printable characters.")
        return value

    def number(self, name: str, default: int, most: int) -> int:
        """Return a whole number from 1 to `most`."""
        text = self.text(name)
        if text is None:
            return default
        digits = is_number(text) and len(text) <= _LONGEST_NUMBER
        if not (digits and 1 <= int(text) <= most):
            raise bad(name, f"'{name}' must be a whole number from 1 to {most}.")
        return int(text)

    def optional_number(self, name: str) -> int | None:
        """Return a whole number, or None when it is absent."""
        return None if self.text(name) is None else self.number(name, 1, 9_999_999_999)

    def time_ms(self, name: str) -> int | None:
        """Return an ISO date or time (UTC unless it says otherwise), or Unix seconds, in ms."""
        text = self.text(name)
        return None if text is None else read_time(text, name) * 1000

    def words(self, name: str, allowed: Sequence[str], default: Sequence[str]) -> list[str]:
        """Return words with commas between them, each once."""
        text = self.text(name)
        words = list(default) if text is None else [word.strip() for word in text.split(",")]
        for word in words:
            if word not in allowed:
                raise bad(name, f"'{name}' must be of {', '.join(allowed)}; not '{word}'.")
        return list(dict.fromkeys(words))


def read_query(query: bytes) -> list[tuple[str, str]]:
    """
    Return the parameters of a query string, decoded, in their order.

    Raises:
        GatewayError: BAD_REQUEST naming the parameter: there are too many, or it is too long or
            does not decode to UTF-8.
    """
    found: list[tuple[str, str]] = []
    for field in filter(None, query.split(b"&", MAX_PARAMETERS + 1)):
        raw_name, _, raw_value = field.partition(b"=")
        shown = raw_name[:_SHOWN_NAME].decode("ascii", "replace")
        if len(found) == MAX_PARAMETERS:
            raise bad(shown, f"'{shown}': at most {MAX_PARAMETERS} query parameters are allowed.")
        if len(field) > _MAX_FIELD_BYTES:
            raise bad(shown, f"'{shown}' is longer than {_MAX_FIELD_BYTES} bytes.")
        try:
            found.append((_decoded(raw_name), _decoded(raw_value)))
        except UnicodeDecodeError as error:
            raise bad(shown, f"'{shown}' must be percent-encoded UTF-8.") from error
    return found


def _decoded(part: bytes) -> str:
    return unquote_to_bytes(part.replace(b"+", b" ")).decode()


async def read_json(channel: ClientChannel, shape: type[Shape]) -> Shape:
    """
    Return the body as `shape`, a struct that forbids unknown fields.

    Raises:
        GatewayError: BAD_REQUEST naming the field, CONTENT_TYPE, BODY_TOO_LARGE, BODY_TIMEOUT,
            CLIENT_GONE.
    """
    kind = channel.header(b"content-type")
    if kind is not None and b"json" not in kind.lower():
        raise GatewayError(
            ErrorKind.CONTENT_TYPE, "The content-type of the request must be application/json."
        )
    task = asyncio.current_task()
    assert task is not None
    body = await channel.read_body(MAX_BODY_BYTES, BODY_TIMEOUT_S, task)
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except msgspec.ValidationError as error:
        found = _AT.search(str(error)) or _FIELD.search(str(error))
        raise bad(found[1] if found else None, f"{error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad(None, f"The request body is not JSON: {error}.") from error


def read_time(text: str, name: str) -> int:
    """Return Unix seconds from an ISO date or time, in UTC by default, or from digits."""
    try:
        seconds = int(text[:_LONGEST_NUMBER]) if is_number(text) else calendar.read_time(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= calendar.LAST_SECOND:
        raise bad(name, f"'{name}' must be a date like 2027-01-31, an ISO time, or Unix seconds.")
    return seconds


def is_number(text: str) -> bool:
    """Return whether `text` consists of ASCII digits only."""
    return text.isascii() and text.isdigit()


def read_text(text: str, name: str) -> str:
    """Return a name, a note or a reason as it is kept."""
    text = text.strip()
    if not text or len(text) > MAX_TEXT or not text.isprintable():
        raise bad(name, f"'{name}' must be 1 to {MAX_TEXT} printable characters.")
    return text


def read_amount(amount: str | None, amount_nanousd: int | None, name: str) -> int | None:
    """
    Return an amount that is given as decimal dollars or as nano-dollars; None: it is not given.

    Raises:
        GatewayError: BAD_REQUEST when both are given, or it is no amount.
    """
    if amount is not None and amount_nanousd is not None:
        raise bad(name, f"Give either '{name}' or '{name}_nanousd'.")
    if amount is None:
        return amount_nanousd
    try:
        return read_dollars(amount)
    except ValueError as error:
        raise bad(name, f"'{name}': {error}.") from error


def bad(param: str | None, message: str) -> GatewayError:
    """Return the error for a field that is wrong."""
    return GatewayError(ErrorKind.BAD_REQUEST, message, param=param)
