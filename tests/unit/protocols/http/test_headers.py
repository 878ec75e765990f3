"""Headers by allow-list, both ways."""

from __future__ import annotations

import pytest

from gateway.core.model import Wire
from gateway.protocols.http.headers import (
    client_headers,
    is_encoded,
    served_by,
    translated_headers,
    upstream_headers,
)
from tests.support.pipeline_fakes import a_model

ROUTE = (
    (b"host", b"api.example:8443"),
    (b"x-api-key", b"UPKEY"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"capio-gateway"),
)
CLAUDE_CODE = [
    (b"host", b"gw"),
    (b"authorization", b"Bearer sk-capio-live-x"),
    (b"x-api-key", b"other"),
    (b"content-type", b"application/json"),
    (b"content-length", b"10"),
    (b"anthropic-version", b"2026-10-21"),
    (b"anthropic-beta", b"a,b"),
    (b"anthropic-beta", b"c"),
    (b"anthropic-organization-id", b"o"),
    (b"anthropic-workspace-id", b"w"),
    (b"anthropic-user-profile-id", b"p"),
    (b"anthropic-dangerous-direct-browser-access", b"true"),
    (b"x-claude-code-session-id", b"s"),
    (b"idempotency-key", b"i"),
    (b"openai-organization", b"o"),
    (b"openai-beta", b"x"),
    (b"cookie", b"c"),
    (b"x-forwarded-for", b"1.2.3.4"),
    (b"te", b"trailers"),
    (b"accept-encoding", b"br"),
]


def test_upstream_headers_anthropic_copies_version_and_beta_alone() -> None:
    """Ids of organizations, workspaces and profiles choose an account: they stay here."""
    assert upstream_headers(Wire.ANTHROPIC, CLAUDE_CODE, ROUTE) == (
        (b"content-type", b"application/json"),
        (b"anthropic-version", b"2026-10-21"),
        (b"anthropic-beta", b"a,b"),
        (b"anthropic-beta", b"c"),
        (b"host", b"api.example:8443"),
        (b"x-api-key", b"UPKEY"),
        (b"accept-encoding", b"identity"),
        (b"user-agent", b"capio-gateway"),
    )


def test_upstream_headers_openai_drops_anthropic_names() -> None:
    """The OpenAI wire knows two of the client's headers."""
    headers = upstream_headers(Wire.OPENAI, CLAUDE_CODE, ())

    assert headers == ((b"content-type", b"application/json"), (b"openai-beta", b"x"))


def test_upstream_headers_named_by_connection_are_not_copied() -> None:
    """A header that the client declares hop-by-hop stays on its hop."""
    client = [
        (b"accept", b"*/*"),
        (b"anthropic-beta", b"b"),
        (b"connection", b"keep-alive, Anthropic-Beta"),
        (b"connection", b"accept"),
    ]

    assert upstream_headers(Wire.ANTHROPIC, client, ()) == (
        (b"content-type", b"application/json"),
        (b"anthropic-version", b"2023-06-01"),
    )


def test_upstream_headers_route_wins_and_betas_add_up() -> None:
    """An operator's version is pinned; beta flags of both sides are sent."""
    route = ((b"anthropic-version", b"2023-06-01"), (b"anthropic-beta", b"mine"))

    assert upstream_headers(Wire.ANTHROPIC, CLAUDE_CODE, route) == (
        (b"content-type", b"application/json"),
        (b"anthropic-beta", b"a,b"),
        (b"anthropic-beta", b"c"),
        *route,
    )


def test_translated_headers_carry_nothing_of_the_client() -> None:
    """A translated request has the headers its own body needs."""
    assert translated_headers(Wire.ANTHROPIC, ROUTE, stream=True) == (
        (b"content-type", b"application/json"),
        (b"accept", b"text/event-stream"),
        (b"anthropic-version", b"2023-06-01"),
        *ROUTE,
    )
    assert translated_headers(Wire.OPENAI, ((b"accept", b"x"),), stream=False) == (
        (b"content-type", b"application/json"),
        (b"accept", b"x"),
    )


def test_client_headers_event_stream_is_not_cached_nor_buffered() -> None:
    """SSE gets our cache-control, no length, and both request ids."""
    upstream = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"max-age=5"),
        (b"content-length", b"5"),
        (b"request-id", b"req_1"),
        (b"x-request-id", b"lb"),
        (b"anthropic-ratelimit-tokens-limit", b"1"),
        (b"set-cookie", b"a=b"),
        (b"x-capio-dropped", b"forged"),
    ]

    assert client_headers(upstream, "gw1", stream=True) == [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-accel-buffering", b"no"),
        (b"request-id", b"gw1"),
        (b"x-request-id", b"gw1"),
        (b"x-upstream-request-id", b"req_1"),
    ]


def test_client_headers_length_kept_only_for_the_same_bytes() -> None:
    """A changed or compressed body has another length."""
    upstream = [(b"content-length", b"12"), (b"retry-after", b"3"), (b"x-should-retry", b"true")]

    def lengths(*more: tuple[bytes, bytes], unchanged: bool = True) -> bool:
        headers = client_headers([*upstream, *more], "r", stream=False, unchanged=unchanged)
        assert (b"retry-after", b"3") in headers
        return (b"content-length", b"12") in headers

    assert lengths()
    assert lengths((b"content-encoding", b"Identity"))
    assert not lengths((b"content-encoding", b"gzip"))
    assert not lengths(unchanged=False)
    assert is_encoded({b"content-encoding": b"br"})


@pytest.mark.parametrize("wire", list(Wire))
@pytest.mark.parametrize(
    "sent",
    [b"application/json; charset=utf-7", b"multipart/form-data; boundary=json", b"text/plain", b""],
)
def test_upstream_headers_content_type_is_never_the_clients(wire: Wire, sent: bytes) -> None:
    """Under another type an upstream could read another request than the one that was checked."""
    headers = upstream_headers(wire, [(b"content-type", sent)], ROUTE)

    assert [value for name, value in headers if name == b"content-type"] == [b"application/json"]


def test_client_headers_whole_answer_is_json_that_nobody_stores() -> None:
    """An upstream's page is no page here, and its caching rules are not ours."""
    upstream = [(b"content-type", b"text/html"), (b"cache-control", b"public, max-age=60")]

    assert client_headers(upstream, "gw1", stream=False) == [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"request-id", b"gw1"),
        (b"x-request-id", b"gw1"),
    ]


def test_client_headers_advice_on_retries_comes_with_errors_alone() -> None:
    """A successful response cannot make an SDK retry."""
    upstream = [(b"x-should-retry", b"true")]

    assert upstream[0] not in client_headers(upstream, "r", stream=False)
    assert upstream[0] in client_headers(upstream, "r", stream=False, error=True)


def test_served_by_names_only_what_is_known() -> None:
    """Without a provider, or a model, that header is missing."""
    model = a_model()

    assert served_by(model, "p", 2) == [
        (b"x-capio-attempts", b"2"),
        (b"x-capio-model", b"m"),
        (b"x-capio-provider", b"p"),
    ]
    assert served_by(None, None, 1) == [(b"x-capio-attempts", b"1")]
