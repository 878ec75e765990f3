"""Reads and removes the list of fallback models in a client's request."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from gateway.core.model import Wire
from gateway.core.routing.preferences import FALLBACKS, split_names
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.http.request.call_fields import CallFields
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.http.request.rewrite import without_fields

MEMBERS: Final = ("models", "fallbacks")
MOST_MODELS: Final = 8
LONGEST_NAME: Final = 256


class Fallback(NamedTuple):
    """A model that a client names, and the field or header in which it does."""

    name: str
    field: str


class _Named(msgspec.Struct):
    model: str


class _Lists(msgspec.Struct):
    models: list[str | _Named] | None = None
    fallbacks: list[str | _Named] | None = None


_LISTS: Final = msgspec.json.Decoder(_Lists)


def names_fallbacks(fields: CallFields) -> bool:
    """Return whether a request has a list of models."""
    return bool(fields.priced) and any(use.field in MEMBERS for use in fields.priced)


def take_fallbacks(body: bytes, wire: Wire) -> tuple[bytes, CallFields, tuple[Fallback, ...]]:
    """
    Return a request without its lists of models, its fields, and the models in them.

    Both `["name"]` and `[{"model": "name"}]` are accepted, in `models` and `fallbacks`.

    Raises:
        GatewayError: BAD_REQUEST: a list of another form, or with too many models.
    """
    lists = decode_request(body, _LISTS)
    found: dict[str, Fallback] = {}
    for member in MEMBERS:
        listed = getattr(lists, member) or []
        for index, each in enumerate(listed):
            name = each if isinstance(each, str) else each.model
            if not 0 < len(name) <= LONGEST_NAME:
                raise _bad(f"{member}[{index}]", "is not the name of a model")
            found.setdefault(name, Fallback(name, member))
        if len(found) > MOST_MODELS:
            raise _bad(member, f"has too many models: give at most {MOST_MODELS}")
    body = without_fields(body, MEMBERS)
    return body, decode_call(body, wire), tuple(found.values())


def header_fallbacks(value: bytes) -> tuple[Fallback, ...]:
    """
    Return the models in the header `x-capio-fallbacks`.

    Raises:
        GatewayError: BAD_REQUEST: too many.
    """
    names = tuple(dict.fromkeys(split_names(FALLBACKS, value)))
    field = FALLBACKS.decode()
    if len(names) > MOST_MODELS:
        raise _bad(field, f"has too many models: give at most {MOST_MODELS}")
    return tuple([Fallback(name, field) for name in names])


def fallback_refused(fallback: Fallback, problem: str) -> GatewayError:
    """Return the error for a fallback model that cannot be used."""
    return _bad(fallback.field, problem)


def _bad(param: str, problem: str) -> GatewayError:
    return GatewayError(ErrorKind.BAD_REQUEST, f"{param} {problem}.", param=param)
