"""Which path asks for what."""

from __future__ import annotations

import pytest

from gateway.core.model import Endpoint, Wire
from gateway.edge.routes import Page, allowed_methods, error_wire, match
from gateway.errors import ErrorKind, GatewayError


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", "/v1/chat/completions", Endpoint.CHAT_COMPLETIONS),
        ("POST", "/v1/messages", Endpoint.MESSAGES),
        ("POST", "/v1/messages/count_tokens", Endpoint.COUNT_TOKENS),
        ("POST", "/v1/responses", Endpoint.RESPONSES),
        ("POST", "/v1/embeddings", Endpoint.EMBEDDINGS),
        ("POST", "/v1/chat", Endpoint.NATIVE_CHAT),
        ("GET", "/v1/models", Page.MODELS),
        ("GET", "/v1/models/anthropic/claude-opus-4-8", Page.MODELS),
        ("GET", "/v1/responses/resp_1", Page.RESPONSE),
        ("DELETE", "/v1/responses/resp_1", Page.RESPONSE),
        ("GET", "/v1/responses/resp_1/input_items", Page.RESPONSE),
        ("HEAD", "/", Page.ROOT),
        ("POST", "/app/api-keys", Page.CONSOLE),
        ("GET", "/models", Page.CONSOLE),
        ("GET", "/admin-ui", Page.CONSOLE),
        ("HEAD", "/api/hello", Page.HELLO),
        ("GET", "/healthz", Page.HEALTH),
    ],
)
def test_match_known_paths(method: str, path: str, target: Endpoint | Page) -> None:
    """Every public path matches; model ids may contain slashes."""
    assert match(method, path) is target


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1/files", ErrorKind.UNKNOWN_PATH),
        ("POST", "/v1/messages/batches", ErrorKind.UNKNOWN_PATH),
        ("POST", "/v1/v1/messages", ErrorKind.UNKNOWN_PATH),
        ("POST", "/chat/completions", ErrorKind.UNKNOWN_PATH),
        ("POST", "/v1/", ErrorKind.UNKNOWN_PATH),
        ("GET", "/admin/%61ccounts", ErrorKind.UNKNOWN_PATH),
        ("GET", "/v1/messages", ErrorKind.WRONG_METHOD),
        ("DELETE", "/v1/models/x", ErrorKind.WRONG_METHOD),
        ("DELETE", "/v1/responses/resp_1/input_items", ErrorKind.WRONG_METHOD),
        ("POST", "/v1/responses/resp_1", ErrorKind.WRONG_METHOD),
        ("POST", "/v1/responses/resp_1/cancel", ErrorKind.UNKNOWN_PATH),
        ("GET", "/v1/responses/", ErrorKind.UNKNOWN_PATH),
        ("GET", "/v1/responses//input_items", ErrorKind.UNKNOWN_PATH),
    ],
)
def test_match_other_paths_and_methods_are_refused(method: str, path: str, kind: ErrorKind) -> None:
    """Unknown paths are 404, wrong methods 405."""
    with pytest.raises(GatewayError) as caught:
        match(method, path)
    assert caught.value.kind is kind


def test_surface_follows_the_path() -> None:
    """Errors below `/v1/messages` have Anthropic's format, all others OpenAI's."""
    for path in ("/v1/messages", "/v1/messages/batches", "/v1/messages/count_tokens"):
        assert error_wire(path) is Wire.ANTHROPIC
    for path in ("/v1/chat/completions", "/v1/chat", "/v1/responses", "/v1/files", "/nothing"):
        assert error_wire(path) is Wire.OPENAI


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/responses", b"POST"),
        ("/v1/responses/resp_1", b"GET, HEAD, DELETE"),
        ("/v1/responses/resp_1/input_items", b"GET, HEAD"),
        ("/v1/models", b"GET, HEAD"),
    ],
)
def test_refused_method_names_those_allowed(path: str, allowed: bytes) -> None:
    """The `allow` header of a 405."""
    assert allowed_methods(path) == allowed
