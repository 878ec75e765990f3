"""Maps paths to endpoints and pages."""

from __future__ import annotations

import enum

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError


class Page(enum.Enum):
    """Paths other than inference endpoints."""

    ROOT = "root"
    HELLO = "hello"
    HEALTH = "healthz"
    READY = "readyz"
    MODELS = "models"
    CREDITS = "credits"
    REDEEM = "redeem"
    USAGE = "usage"
    GENERATION = "generation"
    RESPONSE = "response"  # `/v1/responses/{id}` and its input items
    ADMIN = "admin"  # everything below `/admin/`
    CONSOLE = "console"  # all paths that belong to no API


ACCOUNT_PAGES = frozenset({Page.CREDITS, Page.REDEEM, Page.USAGE, Page.GENERATION})

_ENDPOINTS = {
    "/v1/chat/completions": Endpoint.CHAT_COMPLETIONS,
    "/v1/messages": Endpoint.MESSAGES,
    "/v1/messages/count_tokens": Endpoint.COUNT_TOKENS,
    "/v1/responses": Endpoint.RESPONSES,
    "/v1/chat": Endpoint.NATIVE_CHAT,
    "/v1/embeddings": Endpoint.EMBEDDINGS,
}
RESPONSES = "/v1/responses/"
INPUT_ITEMS = "/input_items"
_API_PREFIXES = ("/v1/", "/admin/", "/api/")
# Requested by clients whose base URL lacks `/v1`: the response is an API error, not a page.
_WITHOUT_VERSION = frozenset(path.removeprefix("/v1") for path in _ENDPOINTS)

_PAGES = {
    "/": Page.ROOT,
    "/api/hello": Page.HELLO,
    "/healthz": Page.HEALTH,
    "/readyz": Page.READY,
    "/v1/models": Page.MODELS,
    "/v1/credits": Page.CREDITS,
    "/v1/credits/redeem": Page.REDEEM,
    "/v1/usage": Page.USAGE,
    "/v1/generation": Page.GENERATION,
}


def allowed_methods(path: str) -> bytes:
    """Return the `allow` header of a path that is refused for its method."""
    if path.startswith(RESPONSES):
        return b"GET, HEAD" if path.endswith(INPUT_ITEMS) else b"GET, HEAD, DELETE"
    is_post = path in _ENDPOINTS or _PAGES.get(path) is Page.REDEEM
    return b"POST" if is_post else b"GET, HEAD"


def inference(method: str, path: str) -> Endpoint | None:
    """Return the inference endpoint of a request; None for other paths and for wrong methods."""
    return _ENDPOINTS.get(path) if method == "POST" else None


def match(method: str, path: str) -> Endpoint | Page:
    """
    Return the endpoint or page of a request.

    Only the model's name below `/v1/models/` may be percent-encoded.

    Args:
        method: In upper case.
        path: As sent, not decoded, without the query.

    Raises:
        GatewayError: UNKNOWN_PATH for a path of an API, WRONG_METHOD.
    """
    endpoint = _ENDPOINTS.get(path)
    if endpoint is not None:
        if method != "POST":
            raise GatewayError(ErrorKind.WRONG_METHOD, f"{path} takes POST, not {method}.")
        return endpoint
    page = _PAGES.get(path) or _below(path)
    if page is None and path not in _WITHOUT_VERSION and not path.startswith(_API_PREFIXES):
        return Page.CONSOLE
    if page is None:
        raise GatewayError(ErrorKind.UNKNOWN_PATH, f"There is nothing at {path}.")
    if page is Page.ADMIN:
        return page  # matches paths and methods itself
    if page is Page.REDEEM:
        if method != "POST":
            raise GatewayError(ErrorKind.WRONG_METHOD, f"{path} takes POST, not {method}.")
        return page
    if page is Page.RESPONSE and method == "DELETE" and not path.endswith(INPUT_ITEMS):
        return page
    if method not in ("GET", "HEAD"):
        raise GatewayError(ErrorKind.WRONG_METHOD, f"{path} takes GET, not {method}.")
    return page


def _below(path: str) -> Page | None:
    if path.startswith("/v1/models/"):
        return Page.MODELS
    if path.startswith(RESPONSES):
        wanted = path.removeprefix(RESPONSES).removesuffix(INPUT_ITEMS)
        return Page.RESPONSE if wanted and "/" not in wanted else None
    return Page.ADMIN if path.startswith("/admin/") and "%" not in path else None


def error_wire(path: str) -> Wire:
    """Return the wire format of the path's errors."""
    return Wire.ANTHROPIC if path.startswith("/v1/messages") else Wire.OPENAI
