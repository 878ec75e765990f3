"""What goes through the gateway between two sides of the same dialect stays as it was sent."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.bodies import (
    ANTHROPIC,
    DONE,
    END,
    FINISH,
    MORE,
    OPENAI,
    OPENAI_USAGE,
    PATHS,
    START,
    WHOLE,
    chat,
    message,
    openai_event,
)
from tests.support.raw_client import Connection, render
from tests.support.raw_upstream import Slot, stream, whole
from tests.support.service import UPSTREAM_KEY, Key, Service

pytestmark = pytest.mark.process

ODD_CHAT = (
    b' {\t"messages" :[ {"content":"caf\\u00e9 \\/ \xc3\xa9","role":"user", "x-unknown":null} ],'
    b'\r\n"temperature":1.0E+0, "seed":12345678901234567890123, "top_p":0.10,'
    b'"model" : "%b" ,"unknown":{"model":"inner","deep":[1e2,-0,{"a":{}}]},'
    b'"tools":[{"type":"function","function":{"name":"f","parameters":'
    b'{"properties":{"b":{},"a":{}},"$schema":"x"}}}]}\n'
)
ODD_MESSAGE = (
    b'{"max_tokens" :  1000,"system":[{"type":"text","text":"x-anthropic-billing-header: a"},'
    b'{"type":"text","text":"S","cache_control":{"type":"ephemeral","ttl":"1h"}}],\n'
    b'"model":"%b","safeguards":[{"type":"dangerous_tool_use"}],"context_management":{"edits":[]},'
    b'"output_config":{"effort":"high"},"metadata":{"user_id":"{\\"a\\": 1}"},'
    b'"messages":[{"role":"user","content":"hi"},{"role":"system","content":"\\ud83d lone"},'
    b'{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"c2ln"}]}]}'
)


@pytest.mark.parametrize(("wire", "template"), [("openai", ODD_CHAT), ("anthropic", ODD_MESSAGE)])
def test_request_of_same_dialect_reaches_upstream_but_for_its_model_byte_for_byte(
    connection: Connection, upstream: Slot, key: Key, wire: str, template: bytes
) -> None:
    """White space, unknown members, number spelling and escapes all stay."""
    upstream.plays(whole(WHOLE[wire]))

    answer = connection.request(
        "POST", PATHS[wire], template % f"capio/{upstream.model(wire)}".encode(), x_api_key=key.raw
    )

    assert answer.status == 200
    assert upstream.exchanges[0].body == template % f"up-{upstream.name}".encode()


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_whole_answer_of_same_dialect_comes_back_byte_for_byte(
    connection: Connection, upstream: Slot, key: Key, wire: str
) -> None:
    """The body is the upstream's, its odd spacing and its model name included."""
    body = WHOLE[wire].replace(b":", b" :  ", 1).replace(b"}", b"}\r\n ", 1)
    upstream.plays(whole(body, headers=b"Content-Type: application/json; charset=utf-8\r\n"))

    answer = connection.request(
        "POST", PATHS[wire], message(upstream.model(wire)), x_api_key=key.raw
    )

    assert answer.body == body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("size", [200_000, 3_000_000])
def test_large_whole_answer_comes_back_byte_for_byte(
    connection: Connection, upstream: Slot, key: Key, size: int
) -> None:
    """Below and above the size up to which responses are read before they are sent."""
    body = WHOLE["openai"].replace(b"Hello", b"y" * size)
    upstream.plays(whole(body))

    answer = connection.request("POST", OPENAI, chat(upstream.model("openai")), x_api_key=key.raw)

    assert (answer.body == body, answer.complete) == (True, True)


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_stream_of_same_dialect_comes_back_byte_for_byte(
    connection: Connection, upstream: Slot, key: Key, wire: str
) -> None:
    """Comments, pings, unknown events, CRLF line ends and odd cuts are the upstream's."""
    said = (
        b": keep-alive\n\n"
        + START[wire]
        + b'event: odd\r\ndata: {"x" : 1.0}\r\n\r\n'
        + b"id: 7\nretry: 10\n"
        + MORE[wire]
        + FINISH[wire]
        + END[wire]
    )
    pieces = [said[at : at + 37] for at in range(0, len(said), 37)]
    upstream.plays(stream(*pieces))
    body = message(upstream.model(wire), stream=True, stream_options={"include_usage": True})

    answer = connection.request("POST", PATHS[wire], body, x_api_key=key.raw)

    assert (answer.body, answer.complete) == (said, True)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache, no-store"
    assert answer.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (b"", b'{"stream_options":{"include_usage":true},"model":"%b","stream":true'),
        (b',"stream_options":{}', b'"stream_options":{"include_usage":true}'),
        (b',"stream_options": null', b'"stream_options": {"include_usage":true}'),
        (b',"stream_options":{"include_usage":false}', b'"stream_options":{"include_usage":true}'),
    ],
)
def test_usage_is_asked_for_and_hidden_from_a_client_who_did_not_ask(
    connection: Connection, upstream: Slot, key: Key, options: bytes, sent: bytes
) -> None:
    """Only `include_usage` is added to the request; only the usage event is missing."""
    shown = START["openai"] + MORE["openai"] + openai_event(finish="stop")
    upstream.plays(stream(shown, OPENAI_USAGE + DONE))
    head = b'{"model":"%b","stream":true%b,"messages":[]}'

    answer = connection.request(
        "POST", OPENAI, head % (upstream.model("openai").encode(), options), x_api_key=key.raw
    )

    assert answer.body == shown + DONE
    name = f"up-{upstream.name}".encode()
    assert (sent.replace(b"%b", name)) in upstream.exchanges[0].body


def test_first_chunk_is_not_held_back(connection: Connection, upstream: Slot, key: Key) -> None:
    """The client gets the first event before the upstream sends the second."""
    first = START["anthropic"]
    upstream.plays(stream(first, end="hang"))

    connection.send(
        render(
            "POST", ANTHROPIC, message(upstream.model("anthropic"), stream=True), x_api_key=key.raw
        )
    )

    assert connection.read_head()[0] == 200
    assert connection.read_chunk() == first


def test_anthropic_headers_reach_upstream_and_no_other_of_the_callers(
    connection: Connection, upstream: Slot, key: Key
) -> None:
    """Version and betas are forwarded; the client's key, cookies and telemetry are not."""
    upstream.plays(whole(WHOLE["anthropic"]))

    connection.request(
        "POST",
        f"{ANTHROPIC}?beta=true",
        message(upstream.model("anthropic")),
        authorization=f"Bearer {key.raw}",
        x_api_key="sk-ant-api03-another-vendors-key",
        anthropic_version="2026-10-21",
        anthropic_beta="claude-code-20250219,effort-2025-11-24",
        anthropic_user_profile_id="p1",
        anthropic_dangerous_direct_browser_access="true",
        user_agent="claude-cli/2.1.330 (external, sdk-cli)",
        accept="application/json",
        accept_encoding="gzip, deflate, br, zstd",
        cookie="a=b",
        x_app="cli",
        x_stainless_lang="js",
        x_claude_code_session_id="s1",
        x_forwarded_for="10.0.0.1",
        idempotency_key="k1",
        origin="http://evil.test",
        te="trailers",
        connection="keep-alive, x-named-hop",
        x_named_hop="1",
    )

    exchange = upstream.exchanges[0]
    got = dict(exchange.headers)
    assert exchange.target == f"/{upstream.name}/v1/messages"
    assert got["anthropic-version"] == "2026-10-21"
    assert got["anthropic-beta"] == "claude-code-20250219,effort-2025-11-24"
    assert "anthropic-user-profile-id" not in got
    assert got["accept"] == "application/json"
    assert got["x-api-key"] == UPSTREAM_KEY
    assert got["accept-encoding"] == "identity"
    assert "claude" not in got["user-agent"]
    assert set(got) == {
        "host", "content-type", "content-length", "accept", "accept-encoding", "user-agent",
        "x-api-key", "anthropic-version", "anthropic-beta", "traceparent",
    }  # fmt: skip


def test_openai_headers_reach_upstream_with_the_gateways_credential(
    connection: Connection, upstream: Slot, key: Key
) -> None:
    """`openai-beta` goes on; organisation, project and Anthropic's headers do not."""
    upstream.plays(whole(WHOLE["openai"]))

    connection.request(
        "POST",
        OPENAI,
        chat(upstream.model("openai")),
        x_api_key=key.raw,
        openai_beta="b=v2",
        openai_organization="org",
        openai_project="proj",
        anthropic_version="2023-06-01",
        accept="*/*",
    )

    got = dict(upstream.exchanges[0].headers)
    assert got["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert got["openai-beta"] == "b=v2"
    assert set(got) == {
        "host", "content-type", "content-length", "accept", "accept-encoding", "user-agent",
        "authorization", "openai-beta", "traceparent",
    }  # fmt: skip


def test_translated_request_carries_no_header_of_the_callers(
    connection: Connection, upstream: Slot, key: Key
) -> None:
    """An Anthropic client's version and betas are not forwarded to an OpenAI upstream."""
    upstream.plays(whole(WHOLE["openai"]))

    answer = connection.request(
        "POST",
        ANTHROPIC,
        message(upstream.model("openai")),
        x_api_key=key.raw,
        anthropic_version="2026-10-21",
        anthropic_beta="b",
        openai_beta="c",
        accept="text/html",
    )

    assert answer.status == 200
    assert set(dict(upstream.exchanges[0].headers)) == {
        "host", "content-type", "content-length", "accept", "accept-encoding", "user-agent",
        "authorization", "traceparent",
    }  # fmt: skip
    assert answer.json["model"] == upstream.model("openai")


@pytest.mark.parametrize("streamed", [False, True])
def test_answer_has_only_the_headers_that_concern_the_caller(
    connection: Connection, upstream: Slot, key: Key, streamed: bool
) -> None:
    """The upstream account's limits, cookies and server names stay behind; ids are added."""
    headers = (
        b"request-id: up-1\r\nset-cookie: a=b\r\nserver: nginx\r\nvia: 1.1 x\r\ncf-ray: 1\r\n"
        b"anthropic-ratelimit-requests-remaining: 3\r\nx-ratelimit-limit-tokens: 4\r\n"
        b"anthropic-organization-id: org\r\nopenai-processing-ms: 5\r\n"
        b"strict-transport-security: max-age=1\r\nkeep-alive: timeout=5\r\nretry-after: 7\r\n"
    )
    if streamed:
        upstream.plays(
            stream(START["anthropic"] + FINISH["anthropic"] + END["anthropic"], headers=headers)
        )
    else:
        upstream.plays(whole(WHOLE["anthropic"], headers=headers))

    answer = connection.request(
        "POST",
        ANTHROPIC,
        message(upstream.model("anthropic"), stream=streamed),
        x_api_key=key.raw,
    )

    got = answer.headers
    framing = {"cache-control", "x-accel-buffering", "transfer-encoding"}
    assert got["x-request-id"] == got["request-id"] != "up-1"
    assert got["x-upstream-request-id"] == "up-1"
    assert got["retry-after"] == "7"
    ours = {name for name in got if name.startswith(("x-capio-", "anthropic-ratelimit-"))}
    assert "3" not in {got[name] for name in ours}
    assert set(got) - ours - (framing if streamed else {"content-length"}) <= {
        "content-type", "request-id", "x-request-id", "x-upstream-request-id", "retry-after",
        "server-timing", "date", "server", "cache-control", "x-content-type-options",
    }  # fmt: skip
    assert "nginx" not in got.get("server", "")


def test_connection_is_kept_after_a_401(connection: Connection, key: Key) -> None:
    """After a 401 the same connection serves the next request."""
    refused = connection.request("POST", OPENAI, chat("MiniMax-M3"), authorization="Bearer wrong")
    accepted = connection.request("POST", OPENAI, chat("MiniMax-M3"), x_api_key=key.raw)

    assert (refused.status, accepted.status) == (401, 200)


@pytest.mark.parametrize("path", ["/", "/api/hello", "/healthz"])
def test_probe_by_head_gets_200_and_no_body(connection: Connection, path: str) -> None:
    """Claude Code asks so before its first call, without a key."""
    answer = connection.request("HEAD", path)

    assert (answer.status, answer.body) == (200, b"")
    assert connection.request("HEAD", path).status == 200


def test_head_of_any_path_is_no_server_error(connection: Connection) -> None:
    """HEAD of any path has a status below 500."""
    for path in ("/v1/models", "/v1/messages", "/v1/chat/completions", "/nothing"):
        assert connection.request("HEAD", path).status < 500


def test_curl_with_expect_100_continue_sends_two_megabytes(
    gateway: Service, upstream: Slot, key: Key, tmp_path: Path
) -> None:
    """Where curl waits for `100 Continue` before a body of this size, the call succeeds."""
    upstream.plays(whole(WHOLE["openai"]))
    body = chat(upstream.model("openai"), "y" * 2_000_000)
    file = tmp_path / "body.json"
    file.write_bytes(body)

    done = subprocess.run(
        [
            "curl", "-sS", "-m", "20", "-o", "/dev/null", "-v", "-w", "%{http_code} %{time_total}",
            "-H", "Expect: 100-continue", "-H", f"Authorization: Bearer {key.raw}",
            "-H", "Content-Type: application/json", "--data-binary", f"@{file}",
            f"{gateway.url}{OPENAI}",
        ],
        capture_output=True, text=True, check=True, timeout=25,
    )  # fmt: skip

    status, seconds = done.stdout.split()
    assert status == "200"
    assert "100 Continue" in done.stderr
    assert float(seconds) < 1.0, "curl gives up waiting for 100 Continue after one second"
    assert len(upstream.exchanges[0].body) == len(body) + len(f"up-{upstream.name}") - len(
        upstream.model("openai")
    )
