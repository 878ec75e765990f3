"""
The few fields of a request that the gateway acts on, and where its model name stands.

Everything else of a body is carried as bytes and judged by the upstream. One msgspec pass checks
the syntax of the whole document.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.codec.json_spans import Member, members

Tokens = Annotated[int, msgspec.Meta(ge=0)]


class StreamOptions(msgspec.Struct, frozen=True, gc=False):
    """OpenAI's `stream_options`, as far as it is acted on."""

    include_usage: bool | None = None


class CallFields(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway reads of a chat, messages, embeddings or similar request."""

    model: str
    """The name as the client sent it."""
    model_span: tuple[int, int]
    """The value of the one top-level `model` is `body[start:end]`, quotes included."""
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    choices: int = 1
    """OpenAI's `n`."""
    user_id: str | None = None
    """Anthropic's `metadata.user_id`."""
    prompt_cache_key: str | None = None
    stream_options: StreamOptions | UnsetType | None = UNSET

    @property
    def include_usage(self) -> bool:
        """Whether the client itself asked for the usage chunk of an OpenAI stream."""
        return isinstance(self.stream_options, StreamOptions) and bool(
            self.stream_options.include_usage
        )

    @property
    def output_limit(self) -> int | None:
        """The larger of the limits that the client named: upstreams differ in which one counts."""
        if self.max_completion_tokens is None or self.max_tokens is None:
            return (
                self.max_tokens
                if self.max_completion_tokens is None
                else (self.max_completion_tokens)
            )
        return max(self.max_completion_tokens, self.max_tokens)


class _Metadata(msgspec.Struct, gc=False):
    user_id: str | None = None


class _OpenAIFields(msgspec.Struct, gc=False):
    model: str
    stream: bool | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    n: Tokens | None = None
    prompt_cache_key: str | None = None
    stream_options: StreamOptions | UnsetType | None = UNSET


class _AnthropicFields(msgspec.Struct, gc=False):
    model: str
    stream: bool | None = None
    max_tokens: Tokens | None = None
    metadata: _Metadata | None = None


_Fields = TypeVar("_Fields", _OpenAIFields, _AnthropicFields)

_OPENAI: Final = msgspec.json.Decoder(_OpenAIFields)
_ANTHROPIC: Final = msgspec.json.Decoder(_AnthropicFields)

_SMALL_BYTES: Final = 4096
"""Up to here counting the key is cheaper than walking the members."""

_MODEL = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)


def decode_call(body: bytes, wire: Wire) -> CallFields:
    """
    Return the fields of a request body.

    Raises:
        GatewayError: BAD_REQUEST with `param`: not JSON, not an object, nested too deeply, a
            field of the wrong type, no `model`, or more than one (parsers disagree which one
            counts, so the upstream might serve another model than was authorised and billed).
    """
    if wire is Wire.ANTHROPIC:
        messages, span = _decode(body, _ANTHROPIC)
        return CallFields(
            model=messages.model,
            model_span=span,
            stream=messages.stream or False,
            max_tokens=messages.max_tokens,
            user_id=messages.metadata.user_id if messages.metadata else None,
        )
    chat, span = _decode(body, _OPENAI)
    return CallFields(
        model=chat.model,
        model_span=span,
        stream=chat.stream or False,
        max_tokens=chat.max_tokens,
        max_completion_tokens=chat.max_completion_tokens,
        choices=chat.n or 1,
        prompt_cache_key=chat.prompt_cache_key,
        stream_options=chat.stream_options,
    )


def _decode(body: bytes, decoder: msgspec.json.Decoder[_Fields]) -> tuple[_Fields, tuple[int, int]]:
    if len(body) <= _SMALL_BYTES:
        fields = decode_request(body, decoder)
        return fields, _span_in_small(body)
    found = members(body)
    return _fields(body, found, decoder), _model_span(found)


def _fields(body: bytes, found: list[Member], decoder: msgspec.json.Decoder[_Fields]) -> _Fields:
    """Decode from the members' bytes, so that a large body is parsed only once."""
    wanted = decoder.type.__struct_fields__
    parts = [
        b'"%b":%b' % (name.encode(), body[start:end])
        for name, start, end in found
        if name in wanted
    ]
    return decode_request(b"{%b}" % b",".join(parts), decoder)


def _span_in_small(body: bytes) -> tuple[int, int]:
    if body.count(b'"model"') == 1 and b"\\u00" not in body:
        # No other bytes can spell the key, and the decoder found it: this is the one.
        key = _MODEL.search(body)
        assert key is not None
        return key.span(1)
    return _model_span(members(body))


def _model_span(found: list[Member]) -> tuple[int, int]:
    spans = [(start, end) for name, start, end in found if name == "model"]
    if len(spans) > 1:
        raise GatewayError(ErrorKind.BAD_REQUEST, "duplicate key: model", param="model")
    return spans[0]
