"""Nobody makes a call dearer than the catalogue says: the running gateway, both wires."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.bodies import ANTHROPIC, OPENAI, PATHS, WHOLE, chat, message
from tests.support.raw_client import Connection
from tests.support.raw_upstream import Slot, whole
from tests.support.service import Key, Service

pytestmark = pytest.mark.process

WIRES = pytest.mark.parametrize("wire", ["openai", "anthropic"])


def asking(wire: str, model: str, **members: Any) -> bytes:
    """A request on one wire."""
    return message(model, **members) if wire == "anthropic" else chat(model, **members)


@WIRES
def test_hints_do_not_reach_the_upstream(
    connection: Connection, upstream: Slot, key: Key, wire: str
) -> None:
    """A faster tier is left out and named; the response comes."""
    upstream.plays(whole(WHOLE[wire]))
    body = asking(wire, upstream.model(wire), service_tier="priority", speed="fast")

    answer = connection.request(
        "POST", PATHS[wire], body, x_api_key=key.raw, anthropic_beta="a,fast-mode-2026-02-01"
    )

    (sent,) = upstream.exchanges
    assert answer.status == 200
    assert {"service_tier", "speed"} & set(json.loads(sent.body)) == set()
    betas = ["anthropic-beta.fast_mode"] if wire == "anthropic" else []
    assert answer.headers["x-capio-dropped"].split(", ") == ["service_tier", "speed", *betas]
    assert sent.header("anthropic-beta") == (["a"] if wire == "anthropic" else [])


@WIRES
@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
        ({"mcp_servers": [{"type": "url", "url": "http://127.0.0.1:1/"}]}, "mcp_servers"),
        ({"web_search_options": {}}, "web_search_options"),
    ],
)
def test_hosted_tools_are_refused_before_anybody_is_asked(
    connection: Connection,
    upstream: Slot,
    key: Key,
    wire: str,
    members: dict[str, object],
    param: str,
) -> None:
    """400 in the client's dialect, naming the member."""
    body = asking(wire, upstream.model(wire), **members)

    answer = connection.request("POST", PATHS[wire], body, x_api_key=key.raw)

    assert answer.status == 400
    assert answer.json["error"]["message"].startswith(param)
    assert "allow_features" in answer.json["error"]["message"]
    assert upstream.exchanges == []


@WIRES
def test_upstream_reads_json_whatever_the_client_calls_it(
    connection: Connection, upstream: Slot, key: Key, wire: str
) -> None:
    """UTF-7 or a form could make an upstream read another model; the response has our type."""
    page = WHOLE[wire]
    upstream.plays(whole(page, headers=b"content-type: text/html\r\ncache-control: public\r\n"))

    answer = connection.request(
        "POST",
        PATHS[wire],
        asking(wire, upstream.model(wire)),
        x_api_key=key.raw,
        content_type="application/json; charset=utf-7",
        anthropic_organization_id="org",
        anthropic_workspace_id="ws",
    )

    (sent,) = upstream.exchanges
    assert sent.header("content-type") == ["application/json"]
    assert sent.header("anthropic-organization-id") == sent.header("anthropic-workspace-id") == []
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "wire", "usage"),
    [
        (OPENAI, "openai", b'{"prompt_tokens":10,"completion_tokens":1e19}'),
        (OPENAI, "openai", b'{"prompt_tokens":10,"completion_tokens":500000000}'),
        (ANTHROPIC, "anthropic", b'{"input_tokens":-5,"output_tokens":10000000000}'),
    ],
)
def test_usage_that_cannot_be_true_is_estimated(
    connection: Connection,
    upstream: Slot,
    key: Key,
    gateway: Service,
    path: str,
    wire: str,
    usage: bytes,
) -> None:
    """An absurd count is replaced by an estimate, and logged with its deployment."""
    members = json.loads(WHOLE[wire])
    del members["usage"]
    upstream.plays(whole(json.dumps(members)[:-1].encode() + b',"usage":' + usage + b"}"))

    answer = connection.request("POST", path, asking(wire, upstream.model(wire)), x_api_key=key.raw)

    assert answer.status == 200
    gateway.settled(key)  # by then the line is written
    (line,) = gateway.lines(answer.headers["request-id"])
    assert line["outcome"] == "estimated"
    assert 0 < int(str(line["output_tokens"])) < 100
    assert '"event":"usage_read_failed"' in gateway.process.log()
