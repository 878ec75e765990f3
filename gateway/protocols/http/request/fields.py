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
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.codec.json_spans import Member, members, unrepeated
from gateway.protocols.http.request.bounds import DEFAULT_BOUNDS, RequestBounds
from gateway.protocols.http.request.names import ACTED_ON, CHECKED, check_names, check_options
from gateway.protocols.http.request.priced_features import PricedFields, PricedUse, priced_uses

Tokens = Annotated[int, msgspec.Meta(ge=0)]
Choices = Annotated[int, msgspec.Meta(ge=1, le=128)]


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
    """Answers that the upstream generates: `n`, or `best_of` where it is larger."""
    user_id: str | None = None
    """Anthropic's `metadata.user_id`."""
    prompt_cache_key: str | None = None
    stream_options: StreamOptions | UnsetType | None = UNSET
    priced: tuple[PricedUse, ...] = ()
    """Requested features that the upstream charges separately, see `request.priced_features`."""
    asks_reasoning: bool | None = None
    """Whether the request switches reasoning on or off; None: it leaves that to the model."""

    @property
    def include_usage(self) -> bool:
        """Whether the client itself asked for the usage chunk of an OpenAI stream."""
        return isinstance(self.stream_options, StreamOptions) and bool(
            self.stream_options.include_usage
        )

    @property
    def output_limit(self) -> int | None:
        """
        The most output tokens of one choice; None: the client named no limit.

        Of two limits the larger: upstreams differ in which of the two they obey.
        """
        named = [
            limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None
        ]
        return max(named) if named else None


_ABSENT: Final = msgspec.Raw()


class _Metadata(msgspec.Struct, gc=False):
    user_id: str | None = None


class _OpenAIFields(PricedFields, gc=False, kw_only=True):
    model: str
    stream: bool | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    n: Choices | None = None
    best_of: Choices | None = None
    prompt_cache_key: str | None = None
    stream_options: StreamOptions | UnsetType | None = UNSET
    reasoning_effort: msgspec.Raw = _ABSENT
    reasoning: msgspec.Raw = _ABSENT
    thinking: msgspec.Raw = _ABSENT


class _AnthropicFields(PricedFields, gc=False, kw_only=True):
    model: str
    stream: bool | None = None
    max_tokens: Tokens | None = None
    metadata: _Metadata | None = None
    thinking: msgspec.Raw = _ABSENT
    output_config: msgspec.Raw = _ABSENT


_Fields = TypeVar("_Fields", _OpenAIFields, _AnthropicFields)

_OPENAI: Final = msgspec.json.Decoder(_OpenAIFields)
_ANTHROPIC: Final = msgspec.json.Decoder(_AnthropicFields)

_SMALL_BYTES: Final = 4096
"""Up to here counting the key is cheaper than walking the members."""

_MODEL = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)


def decode_call(
    body: bytes, wire: Wire, bounds: RequestBounds | None = DEFAULT_BOUNDS
) -> CallFields:
    """
    Return the fields of a request body.

    Args:
        body: The client's request.
        wire: Its dialect.
        bounds: Limits on its parts; None for a body of the gateway's own making.

    Raises:
        GatewayError: BAD_REQUEST with `param`: not JSON, not an object, nested too deeply, a
            field of the wrong type, no `model`, beyond a bound, or a member that readers may
            understand differently (the upstream might serve another model than was authorised
            and billed): one that comes twice, or is ours but for case.
    """
    if wire is Wire.ANTHROPIC:
        messages, span = _decode(body, _ANTHROPIC, wire, bounds)
        return CallFields(
            model=messages.model,
            model_span=span,
            stream=messages.stream or False,
            max_tokens=messages.max_tokens,
            user_id=messages.metadata.user_id if messages.metadata else None,
            priced=priced_uses(messages),
            asks_reasoning=_asked(messages.thinking, messages.output_config),
        )
    chat, span = _decode(body, _OPENAI, wire, bounds)
    return CallFields(
        model=chat.model,
        model_span=span,
        stream=chat.stream or False,
        max_tokens=chat.max_tokens,
        max_completion_tokens=chat.max_completion_tokens,
        choices=max(chat.n or 1, chat.best_of or 1),
        prompt_cache_key=chat.prompt_cache_key,
        stream_options=chat.stream_options,
        priced=priced_uses(chat),
        asks_reasoning=_asked(chat.reasoning_effort, chat.reasoning, chat.thinking),
    )


def check_request(body: bytes, wire: Wire, bounds: RequestBounds) -> None:
    """
    Check the names and sizes of a request whose fields others read.

    Raises:
        GatewayError: BAD_REQUEST: as `decode_call`, but for the fields' types.
    """
    if len(body) <= _SMALL_BYTES:
        _check_small(body, wire, bounds)
    else:
        _walk(body, wire, bounds)


def _asked(*switches: msgspec.Raw) -> bool | None:
    """Return whether any of the fields that switch reasoning says more than to do without."""
    for switch in switches:
        if switch is not _ABSENT:
            break
    else:
        return None  # the usual case, at no cost
    given = [bytes(switch) for switch in switches if bytes(switch) not in (b"", b"null")]
    if not given:
        return None
    # Only this word is certain to be obeyed where reasoning is the default.
    return given != [b'"none"']


def _decode(
    body: bytes, decoder: msgspec.json.Decoder[_Fields], wire: Wire, bounds: RequestBounds | None
) -> tuple[_Fields, tuple[int, int]]:
    if len(body) <= _SMALL_BYTES:
        fields = decode_request(body, decoder)
        _check_small(body, wire, bounds)
        return fields, _span_in_small(body)
    found = _walk(body, wire, bounds)
    return _fields(body, found, decoder), _model_span(found)


def _check_small(body: bytes, wire: Wire, bounds: RequestBounds | None) -> None:
    most = bounds.max_members if bounds else None
    values = unrepeated(body, most=most)
    if not ACTED_ON.issuperset(values):
        check_names(values)
    if not CHECKED.isdisjoint(values):
        for name in CHECKED.intersection(values):
            check_options(name, values[name], wire, most)


def _walk(body: bytes, wire: Wire, bounds: RequestBounds | None) -> list[Member]:
    """Return the members of a larger body, checked."""
    most = bounds.max_members if bounds else None
    found = members(body, most=most)
    check_names([name for name, _, _ in found])
    for name, start, end in found:
        if name in CHECKED:
            check_options(name, body[start:end], wire, most)
    return found


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
    return next((start, end) for name, start, end in found if name == "model")
