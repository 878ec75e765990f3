"""Which path asks for what."""

from __future__ import annotations

import enum

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError


class Page(enum.Enum):
    """Paths that are no inference."""

    ROOT = "root"
    HELLO = "hello"
    HEALTH = "healthz"
    READY = "readyz"
    MODELS = "models"


_ENDPOINTS = {
    "/v1/chat/completions": Endpoint.CHAT_COMPLETIONS,
    "/v1/messages": Endpoint.MESSAGES,
    "/v1/messages/count_tokens": Endpoint.COUNT_TOKENS,
    "/v1/responses": Endpoint.RESPONSES,
    "/v1/chat": Endpoint.NATIVE_CHAT,
    "/v1/embeddings": Endpoint.EMBEDDINGS,
}
_PAGES = {
    "/": Page.ROOT,
    "/api/hello": Page.HELLO,
    "/healthz": Page.HEALTH,
    "/readyz": Page.READY,
    "/v1/models": Page.MODELS,
}


def match(method: str, path: str) -> Endpoint | Page:
    """
    Return what a request asks for; the path comes without its query.

    Raises:
        GatewayError: UNKNOWN_PATH, WRONG_METHOD.
    """
    endpoint = _ENDPOINTS.get(path)
    if endpoint is not None:
        if method != "POST":
            raise GatewayError(ErrorKind.WRONG_METHOD, f"{path} takes POST, not {method}.")
        return endpoint
    page = _PAGES.get(path)
    if page is None and path.startswith("/v1/models/"):
        page = Page.MODELS
    if page is None:
        raise GatewayError(ErrorKind.UNKNOWN_PATH, f"There is nothing at {path}.")
    if method not in ("GET", "HEAD"):
        raise GatewayError(ErrorKind.WRONG_METHOD, f"{path} takes GET, not {method}.")
    return page


def surface(path: str) -> Wire:
    """Return the dialect in which errors of this path are told."""
    return Wire.ANTHROPIC if path.startswith("/v1/messages") else Wire.OPENAI
