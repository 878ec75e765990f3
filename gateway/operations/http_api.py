"""
Reads query strings and JSON bodies of API requests; makes JSON and CSV responses.

It is independent of the transport: workers and the console use it with different servers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.errors import ErrorKind, GatewayError
from gateway.operations.values import MAX_TEXT, InvalidValueError, is_number, read_time
from gateway.protocols.codec.nesting import refuse_deep

BODY_TIMEOUT_S = 10.0
MAX_BODY_BYTES = 64 * 1024
MAX_PARAMETERS = 100  # of one query string
# One parameter, percent-encoded: MAX_TEXT characters of UTF-8 take at most 6,000 bytes.
_MAX_FIELD_BYTES = 8192
_SHOWN_NAME = 100
_MAX_DIGITS = 15

Shape = TypeVar("Shape")
_AT = re.compile(r"at `\$\.?([^`]*)`")
_FIELD = re.compile(r"field `([^`]+)`")
_encode = msgspec.json.Encoder().encode


class Query:
    """
    The query string of one request.

    Args:
        query: As sent, percent-encoded.
        known: The names allowed.

    Raises:
        GatewayError: BAD_REQUEST for an unknown or repeated name.
    """

    def __init__(self, query: bytes, known: Collection[str]) -> None:
        self._values: dict[str, str] = {}
        for name, value in read_query(query):
            if name not in known:
                allowed = ", ".join(sorted(known)) or "none"
                raise InvalidValueError(
                    name, f"is not a parameter of this path (allowed: {allowed})"
                )
            if name in self._values:
                raise InvalidValueError(name, "is given more than once")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """Return a value, or None if it is absent or empty."""
        value = self._values.get(name) or None
        if value is not None and not (value.isprintable() and len(value) <= MAX_TEXT):
            raise InvalidValueError(name, f"must be at most {MAX_TEXT} printable characters")
        return value

    def number(self, name: str, default: int, most: int) -> int:
        """Return a whole number from 1 to `most`."""
        text = self.text(name)
        if text is None:
            return default
        digits = is_number(text) and len(text) <= _MAX_DIGITS
        if not (digits and 1 <= int(text) <= most):
            raise InvalidValueError(name, f"must be a whole number from 1 to {most}")
        return int(text)

    def optional_number(self, name: str) -> int | None:
        """Return a whole number, or None if it is absent."""
        return None if self.text(name) is None else self.number(name, 1, 9_999_999_999)

    def time_ms(self, name: str) -> int | None:
        """Return an ISO date or time (UTC by default), or Unix seconds, in milliseconds."""
        text = self.text(name)
        return None if text is None else read_time(text, name) * 1000

    def words(self, name: str, allowed: Sequence[str], default: Sequence[str]) -> list[str]:
        """Return the words of a comma-separated list, without repetitions."""
        text = self.text(name)
        words = list(default) if text is None else [word.strip() for word in text.split(",")]
        for word in words:
            if word not in allowed:
                raise InvalidValueError(
                    name, f"must be one or more of {', '.join(allowed)}, not '{word}'"
                )
        return list(dict.fromkeys(words))


def read_query(query: bytes) -> list[tuple[str, str]]:
    """
    Return the parameters of a query string, decoded, in their order.

    Raises:
        GatewayError: BAD_REQUEST naming the parameter: there are too many, or it is too long or
            does not decode to UTF-8.
    """
    found: list[tuple[str, str]] = []
    for field in filter(None, query.split(b"&")):
        raw_name, _, raw_value = field.partition(b"=")
        shown = raw_name[:_SHOWN_NAME].decode("ascii", "replace")
        if len(found) == MAX_PARAMETERS:
            raise InvalidValueError(
                shown, f"exceeds the limit of {MAX_PARAMETERS} query parameters"
            )
        if len(field) > _MAX_FIELD_BYTES:
            raise InvalidValueError(shown, f"is longer than {_MAX_FIELD_BYTES} bytes")
        try:
            found.append((_decoded(raw_name), _decoded(raw_value)))
        except UnicodeDecodeError as error:
            raise InvalidValueError(shown, "must be percent-encoded UTF-8") from error
    return found


def _decoded(part: bytes) -> str:
    return unquote_to_bytes(part.replace(b"+", b" ")).decode()


def decode_json(body: bytes, content_type: bytes | None, shape: type[Shape]) -> Shape:
    """
    Return a body as `shape`, a struct that forbids unknown fields.

    Raises:
        GatewayError: BAD_REQUEST naming the field, CONTENT_TYPE.
    """
    check_content_type(content_type)
    refuse_deep(body)
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except msgspec.ValidationError as error:
        found = _AT.search(str(error)) or _FIELD.search(str(error))
        raise GatewayError(
            ErrorKind.BAD_REQUEST, f"{error}.", param=found[1] if found else None
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GatewayError(
            ErrorKind.BAD_REQUEST, f"The request body is not valid JSON: {error}."
        ) from error


def check_content_type(content_type: bytes | None) -> None:
    """Raise CONTENT_TYPE if a body is declared as something other than JSON."""
    if content_type is not None and b"json" not in content_type.lower():
        raise GatewayError(ErrorKind.CONTENT_TYPE, "The content-type must be application/json.")


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response to send. `headers` lacks the length and the request id."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),)


def json_response(value: object, status: int = 200) -> Response:
    """Return a value as a JSON response."""
    return Response(body=_encode(value), status=status)


def list_response(rows: Sequence[object], limit: int, last: object) -> Response:
    """
    Return one page of a list.

    Args:
        rows: At most `limit`.
        limit: The size of a page; after a full page there may be another one.
        last: The cursor of the next page: the id of the last row.
    """
    has_more = len(rows) >= limit
    following = last if has_more and rows else None
    return json_response({"object": "list", "data": rows, "has_more": has_more, "next": following})


def csv_response(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], name: str
) -> Response:
    """Return rows as a CSV attachment called `name`, with a header line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return Response(
        body=text.getvalue().encode(),
        headers=(
            (b"content-type", b"text/csv; charset=utf-8"),
            (b"content-disposition", f'attachment; filename="{name}"'.encode()),
        ),
    )


def complete_headers(response: Response, request_id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response, with its length and the request id."""
    return [
        *response.headers,
        (b"content-length", str(len(response.body)).encode()),
        (b"cache-control", b"no-store"),
        (b"request-id", request_id.encode()),
        (b"x-request-id", request_id.encode()),
    ]
