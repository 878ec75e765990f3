"""
The native endpoint, `POST /v1/chat`: plain text in, plain text out, over any model, not streamed.

A façade over chat completions: the request becomes a chat request, which is then relayed or
translated like any other; the chat response becomes the native response. `docs/native-chat.md`
shows the schema; a test keeps it equal to `MEMBERS`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, NoReturn

import msgspec

from gateway.core.model import Prices
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.openai_chat.lenient import read_response
from gateway.protocols.openai_chat.response import (
    content_texts,
)
from gateway.protocols.openai_chat.usage import ChatUsage, read_chat_usage
from gateway.protocols.translate.capabilities import PLAIN, Capabilities
from gateway.protocols.translate.think_tags import split_reasoning


class Member(NamedTuple):
    """One member of the request, as documented."""

    name: str
    type: str
    required: bool
    allowed: str
    meaning: str


MEMBERS: Final = (
    Member("model", "string", True, "not empty", "The model's name, as on every path."),
    Member("input", "string", True, "not empty", "The text, sent as one user message."),
    Member("temperature", "number", False, "0 or more", "Sampling temperature."),
    Member("max_output_tokens", "integer", False, "1 or more", "Maximum tokens to generate."),
    Member(
        "max_retries",
        "integer",
        False,
        "0 to 5",
        "Further attempts after the first, over all deployments and fallback models.",
    ),
    Member(
        "timeout",
        "number",
        False,
        "above 0, to the operator's limit",
        "Seconds for all attempts, then 504 `timeout`.",
    ),
    Member(
        "web_search",
        "boolean",
        False,
        "true only for a model that searches",
        "Let the model search the web.",
    ),
)
"""The whole request schema, in the order in which members are checked."""


class NativeLimits(NamedTuple):
    """The operator's limits on what a client may request."""

    max_retries: int = 5
    max_timeout_s: float = 600.0


class NativeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A valid request. None: the member is absent."""

    model: str
    input: str
    temperature: float | None = None
    max_output_tokens: int | None = None
    max_retries: int | None = None
    timeout_s: float | None = None
    web_search: bool = False


_LARGEST: Final = 2**53
"""The largest integer accepted: every JSON parser represents it exactly."""
_BODY: Final = msgspec.json.Decoder(dict[str, object])


def read_native_request(body: bytes, limits: NativeLimits) -> NativeRequest:
    """
    Return the request, checked except for the model's existence and its support of `web_search`.

    Raises:
        GatewayError: BAD_REQUEST with `param` and one of the codes missing_required_parameter,
            invalid_type, invalid_value, unknown_parameter; no code if it is not a JSON object.
    """
    members = decode_request(body, _BODY)
    request = NativeRequest(
        model=_text(members, "model"),
        input=_text(members, "input"),
        temperature=_temperature(members),
        max_output_tokens=_integer(members, "max_output_tokens", lowest=1),
        max_retries=_integer(members, "max_retries", lowest=0, highest=limits.max_retries),
        timeout_s=_timeout(members, limits.max_timeout_s),
        web_search=_flag(members, "web_search"),
    )
    known = {member.name for member in MEMBERS}
    for name in members:
        if name not in known:
            _refuse("unknown_parameter", name, f"Unknown parameter: '{name}'.")
    return request


def require_web_search(request: NativeRequest, model_searches: bool) -> None:
    """
    Check `web_search` against the model's catalogue entry.

    Raises:
        GatewayError: BAD_REQUEST, code unsupported_parameter: the model does not offer it.
    """
    if request.web_search and not model_searches:
        message = f"Model '{request.model}' does not search the web; remove 'web_search'."
        _refuse("unsupported_parameter", "web_search", message)


def chat_request(
    request: NativeRequest,
    *,
    model: str,
    limit_field: str = "max_tokens",
    min_output_tokens: int = 1,
) -> bytes:
    """
    Return the chat-completions request.

    Args:
        request: From `read_native_request`.
        model: The name to write: the public one if the body is relayed later, else the upstream's.
        limit_field: The upstream's name of the output limit (capability `max_tokens_param`).
        min_output_tokens: Smaller limits, which the upstream would reject, are raised to this.
    """
    chat: dict[str, object] = {
        "model": model,
        "messages": [{"role": "user", "content": request.input}],
    }
    if request.max_output_tokens is not None:
        chat[limit_field] = max(request.max_output_tokens, min_output_tokens)
    if request.temperature is not None:
        chat["temperature"] = request.temperature
    if request.web_search:
        chat["web_search_options"] = {}
    return msgspec.json.encode(chat)


def native_response(
    body: bytes, *, response_id: str, model: str, prices: Prices, caps: Capabilities = PLAIN
) -> bytes:
    """
    Return the native response for a chat completion.

    Args:
        body: The upstream's response, or its translation, in chat-completions form.
        response_id: A UUID for this response.
        model: The name the client sent.
        prices: The model's, for `charged_tokens`.
        caps: Of the upstream: whether the text may start with reasoning in tags.

    Raises:
        GatewayError: UPSTREAM_MALFORMED, OVERLOADED or UPSTREAM_REFUSED, see
            `read_response`.
    """
    response, _, message = read_response(body)
    text, _ = content_texts(message.content)
    if caps.think_tags or caps.think_opened:
        _, text = split_reasoning(text, opened=caps.think_opened)
    reported = read_chat_usage(response.reported_usage, reasoning_apart=caps.reasoning_apart)
    usage = reported or ChatUsage()
    return msgspec.json.encode(
        {
            "id": response_id,
            "model": model,
            "result": {"text": text or message.refusal or ""},
            "usage": {
                "input_tokens": usage.input,
                "output_tokens": usage.output,
                "total_tokens": usage.total,
                "cached_tokens": usage.cached,
                "charged_tokens": charged_tokens(usage, prices),
            },
        }
    )


def charged_tokens(usage: ChatUsage, prices: Prices) -> int:
    """
    Return the call's size in uncached input tokens: ceil(input - cached + cached x ratio + output).

    The ratio is the cache-read price over the input price, exactly. The number is
    informative: money is charged by the price of each class. A model without an input price has no
    ratio: cached tokens count in full.
    """
    cached = min(usage.cached, usage.input)
    if prices.input <= 0:
        return usage.total
    full = (usage.total - cached) * prices.input
    return -(-(full + cached * prices.cache_read) // prices.input)


def _text(members: dict[str, object], name: str) -> str:
    if name not in members:
        _refuse("missing_required_parameter", name, f"Missing required parameter: '{name}'.")
    value = members[name]
    if not isinstance(value, str):
        _wrong_type(name, "a string")
    if not value:
        _refuse("invalid_value", name, f"Invalid value for '{name}': it must not be empty.")
    return value


def _number(members: dict[str, object], name: str) -> float | None:
    if name not in members:
        return None
    value = members[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        _wrong_type(name, "a number")
    return value


def _temperature(members: dict[str, object]) -> float | None:
    value = _number(members, "temperature")
    if value is not None and not 0 <= value <= _LARGEST:
        _refuse(
            "invalid_value", "temperature", "Invalid value for 'temperature': it must be 0 or more."
        )
    return value


def _integer(
    members: dict[str, object], name: str, *, lowest: int, highest: int | None = None
) -> int | None:
    if name not in members:
        return None
    value = members[name]
    if isinstance(value, bool) or not isinstance(value, int):
        _wrong_type(name, "an integer")
    if not lowest <= value <= (_LARGEST if highest is None else highest):
        bounds = f"{lowest} or more" if highest is None else f"between {lowest} and {highest}"
        _refuse("invalid_value", name, f"Invalid value for '{name}': it must be {bounds}.")
    return value


def _timeout(members: dict[str, object], highest: float) -> float | None:
    value = _number(members, "timeout")
    if value is not None and not 0 < value <= highest:
        message = (
            f"Invalid value for 'timeout': it must be above 0 and at most {highest:g} seconds."
        )
        _refuse("invalid_value", "timeout", message)
    return value


def _flag(members: dict[str, object], name: str) -> bool:
    value = members.get(name, False)
    if not isinstance(value, bool):
        _wrong_type(name, "a boolean")
    return value


def _wrong_type(name: str, wanted: str) -> NoReturn:
    _refuse("invalid_type", name, f"Invalid type for '{name}': it must be {wanted}.")


def _refuse(code: str, param: str, message: str) -> NoReturn:
    raise GatewayError(ErrorKind.BAD_REQUEST, message, param=param, code=code)
