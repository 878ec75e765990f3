"""The meaning and remedy of every error, and errors as components of a document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.core.model import Wire
from gateway.errors import SURFACES, ErrorKind, GatewayError
from gateway.protocols.http.errors.gateway_errors import render


class ErrorText(NamedTuple):
    """`meaning` names settings, for operators; `remedy` is for clients."""

    meaning: str
    remedy: str


class OpenAIErrorBody(Struct):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(Struct):
    """An error in OpenAI's shape."""

    error: OpenAIErrorBody


class AnthropicErrorBody(Struct):
    """What went wrong."""

    type: str
    message: str
    details: dict[str, Any] | UnsetType = UNSET


class AnthropicError(Struct):
    """An error in Anthropic's shape."""

    type: Literal["error"]
    error: AnthropicErrorBody
    request_id: str | UnsetType = UNSET


_WAIT: Final = "Wait as long as `retry-after` says and send the request again."
_AGAIN: Final = "Send the request again; nothing was charged for this one."
_KEY: Final = "Send a valid key in `Authorization: Bearer` or `x-api-key`."

ERROR_TEXTS: Final[dict[ErrorKind, ErrorText]] = {
    ErrorKind.MISSING_KEY: ErrorText("No key in `Authorization: Bearer` or `x-api-key`.", _KEY),
    ErrorKind.INVALID_KEY: ErrorText(
        "The key is malformed, unknown or revoked.",
        "Check that the whole key arrived. A lost or revoked key cannot be restored: create one.",
    ),
    ErrorKind.EXPIRED_KEY: ErrorText("The key has expired.", "Create a key, or replace this one."),
    ErrorKind.DISABLED_KEY: ErrorText(
        "The key is disabled; it can be enabled again.", "Enable the key, or use another one."
    ),
    ErrorKind.FORBIDDEN: ErrorText(
        "The key may not use this model, or its account does not exist.",
        "Choose a model that `/v1/models` lists for this key.",
    ),
    ErrorKind.BAD_REQUEST: ErrorText(
        "The body is not JSON, its chunked encoding is malformed, or a field is"
        " invalid. The message names the field.",
        "Correct the field that the message names.",
    ),
    ErrorKind.UNSUPPORTED: ErrorText(
        "The request is valid, but this model or this gateway cannot serve it.",
        "Remove the named field, or choose another model.",
    ),
    ErrorKind.CONTENT_ENCODING: ErrorText(
        "The request body is compressed.", "Send the body without `content-encoding`."
    ),
    ErrorKind.CONTENT_TYPE: ErrorText(
        "The request's `content-type` is not JSON.", "Send `content-type: application/json`."
    ),
    ErrorKind.BODY_TOO_LARGE: ErrorText(
        "The body exceeds `server.max_body_bytes`,"
        " `server.max_body_bytes_without_credit` or `server.max_count_body_bytes`.",
        "Shorten the conversation, or send smaller images.",
    ),
    ErrorKind.BODY_TIMEOUT: ErrorText(
        "The body did not arrive within `server.body_timeout_s`, or more slowly"
        " than `server.min_body_bytes_per_s`.",
        "Check the connection and send the request again.",
    ),
    ErrorKind.UNKNOWN_PATH: ErrorText(
        "The path does not exist.",
        "Check the base URL: OpenAI's clients take it with `/v1`, Anthropic's without.",
    ),
    ErrorKind.WRONG_METHOD: ErrorText(
        "The path does not support the method.", "Use a method that the header `allow` names."
    ),
    ErrorKind.RESPONSE_NOT_FOUND: ErrorText(
        "No response or item with this id is stored for this API key: it"
        " has expired, was removed to make room or deleted, or was never stored.",
        'Send the full input with `"store": false`.',
    ),
    ErrorKind.UNKNOWN_MODEL: ErrorText(
        "The catalogue has no such model, or the upstream does not know its model.",
        "Choose a name that `/v1/models` lists.",
    ),
    ErrorKind.MODEL_NOT_SUPPORTED: ErrorText(
        "No deployment of the model can serve this endpoint, such as"
        " embeddings on a model that is only on the Anthropic wire.",
        "Use another endpoint or another model.",
    ),
    ErrorKind.RATE_LIMITED: ErrorText(
        "Requests, tokens or concurrent calls exceed a limit of the account or"
        " key, or its open requests and their bodies exceed `server.max_*_per_account`.",
        _WAIT,
    ),
    ErrorKind.NO_CREDIT: ErrorText(
        "The account's credit does not cover the call.", "Add credit, or lower `max_tokens`."
    ),
    ErrorKind.BUDGET_SPENT: ErrorText(
        "A daily, monthly or total budget is used up.",
        "Raise the budget, or wait for the next day or month (UTC).",
    ),
    ErrorKind.OVERLOADED: ErrorText(
        "`server.max_in_flight`, `server.max_buffered_bytes` or `server.max_loop_lag_ms` is"
        " reached, or all connections to the upstream are in use.",
        _WAIT,
    ),
    ErrorKind.NO_ROUTE: ErrorText(
        "The model has no deployment that serves this endpoint.", "Choose another model."
    ),
    ErrorKind.STORE_UNAVAILABLE: ErrorText(
        "The call needs Redis or SQL, and neither responds.", _AGAIN
    ),
    ErrorKind.STOPPING: ErrorText(
        "The gateway or a worker is shutting down, and the grace period of calls is over.",
        "Send the request again. Output that was delivered is charged.",
    ),
    ErrorKind.CONFLICT: ErrorText(
        "A call with this `Idempotency-Key` is still running, or two changes exclude each other.",
        _WAIT,
    ),
    ErrorKind.IDEMPOTENCY_MISMATCH: ErrorText(
        "This `Idempotency-Key` was used with another body.",
        "Use a new `Idempotency-Key` for each intended call.",
    ),
    ErrorKind.IDEMPOTENCY_COMPLETED: ErrorText(
        "The call with this `Idempotency-Key` was charged, but its response is not stored.",
        "Use a new `Idempotency-Key` if the call is to run again; it is charged again.",
    ),
    ErrorKind.UPSTREAM_CONNECT: ErrorText(
        "No connection to the upstream; nothing was sent.", _AGAIN
    ),
    ErrorKind.UPSTREAM_BROKEN: ErrorText(
        "The connection or the stream was interrupted.",
        "Send the request again. Output that was delivered has been charged.",
    ),
    ErrorKind.UPSTREAM_TIMEOUT: ErrorText(
        "A timeout of `providers.timeouts` expired.",
        "Send the request again, streamed if the response is long.",
    ),
    ErrorKind.UPSTREAM_AUTH: ErrorText(
        "The provider rejects the gateway's credential.",
        "Choose another model; the operator must correct the credential.",
    ),
    ErrorKind.UPSTREAM_QUOTA: ErrorText(
        "The gateway's account at the provider has no credit, has used up its"
        " plan or is closed. The provider's message is in the log only.",
        "Choose another model; the operator must add credit at the provider.",
    ),
    ErrorKind.UPSTREAM_REFUSED: ErrorText(
        "Any other error of the upstream. Its message is relayed if the dialect is the same.",
        "Follow the message; send the request again if it names nothing to correct.",
    ),
    ErrorKind.UPSTREAM_MALFORMED: ErrorText("The upstream's response cannot be read.", _AGAIN),
    ErrorKind.SLOW_CLIENT: ErrorText(
        "The client read no byte for `server.send_stall_s`. It sees a closed connection.",
        "Read the stream as it arrives.",
    ),
    ErrorKind.CLIENT_GONE: ErrorText(
        "The client disconnected. The status exists in records only.",
        "Keep the connection open until the response has ended.",
    ),
    ErrorKind.INTERNAL: ErrorText(
        "An unexpected exception in the gateway, logged with its traceback.",
        "Send the request again; report the `x-request-id` if it fails repeatedly.",
    ),
}

KEY_ERRORS: Final = (
    ErrorKind.MISSING_KEY,
    ErrorKind.INVALID_KEY,
    ErrorKind.EXPIRED_KEY,
    ErrorKind.DISABLED_KEY,
)
READ_ERRORS: Final = (
    *KEY_ERRORS,
    ErrorKind.FORBIDDEN,
    ErrorKind.BAD_REQUEST,
    ErrorKind.RATE_LIMITED,
    ErrorKind.OVERLOADED,
    ErrorKind.STORE_UNAVAILABLE,
    ErrorKind.INTERNAL,
)
"""The errors of paths that read an account's own records."""
INFERENCE_ERRORS: Final = tuple(
    kind
    for kind in ErrorKind
    if kind
    not in (
        ErrorKind.UNKNOWN_PATH,
        ErrorKind.WRONG_METHOD,
        ErrorKind.RESPONSE_NOT_FOUND,
        ErrorKind.SLOW_CLIENT,
        ErrorKind.CLIENT_GONE,
    )
)
"""The errors of calls to a model. SLOW_CLIENT and CLIENT_GONE are never sent to a client."""


def status_of(kind: ErrorKind, wire: Wire) -> int:
    """Return the HTTP status of an error in a dialect."""
    surface = SURFACES[kind]
    return surface.anthropic_status if wire is Wire.ANTHROPIC else surface.openai_status


def error_responses(kinds: Iterable[ErrorKind], wire: Wire) -> dict[str, dict[str, Any]]:
    """Return the responses of an operation as references, by status."""
    statuses = sorted({status_of(kind, wire) for kind in kinds})
    return {
        str(status): {"$ref": f"#/components/responses/{component_name(status, wire)}"}
        for status in statuses
    }


def component_name(status: int, wire: Wire) -> str:
    """Return the name of the component for an error's status."""
    return f"{wire.value}_{status}"


def error_components(wire: Wire) -> dict[str, dict[str, Any]]:
    """Return a response component for each status, with an example for each kind of error."""
    found: dict[str, dict[str, Any]] = {}
    shape = AnthropicError if wire is Wire.ANTHROPIC else OpenAIError
    for kind in (*INFERENCE_ERRORS, ErrorKind.RESPONSE_NOT_FOUND):
        status = status_of(kind, wire)
        media: dict[str, Any] = {
            "schema": {"$ref": f"#/components/schemas/{shape.__name__}"},
            "examples": {},
        }
        component = found.setdefault(
            component_name(status, wire),
            {"description": "", "content": {"application/json": media}},
        )
        text = ERROR_TEXTS[kind]
        component["description"] += f"- `{kind.value}`: {text.meaning} {text.remedy}\n"
        examples = component["content"]["application/json"]["examples"]
        examples[kind.value] = {"value": _example(kind, wire)}
    return found


def _example(kind: ErrorKind, wire: Wire) -> Any:
    message = "a-model" if kind is ErrorKind.UNKNOWN_MODEL else ""
    _, _, body = render(GatewayError(kind, message), wire, "req_7f3a")
    return msgspec.json.decode(body)
