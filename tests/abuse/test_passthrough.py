"""What a client can put before the upstream, and what it cannot."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.abuse.answers import honest, message, says
from tests.abuse.service import UPSTREAM_KEY, AbusedGateway, Customer
from tests.support.bodies import ANTHROPIC, OPENAI
from tests.support.raw_client import Answer
from tests.support.raw_upstream import Slot

pytestmark = pytest.mark.process

SAY = '"max_tokens":5,"messages":[{"role":"user","content":"x"}]'
WIRES = [(OPENAI, "openai"), (ANTHROPIC, "anthropic")]
HOSTILE_HEADERS = {
    "x_forwarded_for": "1.2.3.4",
    "cookie": "a=b",
    "openai_organization": "evil",
    "openai_beta": "x=1",
    "anthropic_organization_id": "evil",
    "anthropic_workspace_id": "evil",
    "anthropic_anything": "evil",
    "anthropic_dangerous_direct_browser_access": "true",
    "x_stainless_lang": "python",
}
KNOWN = frozenset(
    {
        *("host", "content-length", "content-type", "accept", "accept-encoding", "user-agent"),
        *("authorization", "x-api-key", "anthropic-version", "anthropic-beta", "openai-beta"),
        *("connection", "traceparent"),
    }
)


@pytest.fixture(scope="module")
def honest_upstream(abused: AbusedGateway) -> Slot:
    """The upstream of all tests here; none makes it fail."""
    slot = abused.take()
    slot.plays(honest())
    return slot


@pytest.fixture
def target(honest_upstream: Slot) -> Slot:
    """The upstream, without the exchanges of earlier tests."""
    honest_upstream.exchanges.clear()
    return honest_upstream


@pytest.fixture(scope="module")
def customer(abused: AbusedGateway) -> Customer:
    """A prepaid customer."""
    return abused.customer("1000")


def send(
    gateway: AbusedGateway, customer: Customer, path: str, model: str, said: str, **headers: Any
) -> Answer:
    """Send a small request with further members, written as JSON."""
    body = f'{{"model":"{model}",{said}}}'.encode()
    return gateway.post(path, customer.key, body, **headers)


@pytest.mark.parametrize(("path", "wire"), WIRES)
def test_only_known_headers_reach_the_upstream(
    abused: AbusedGateway, customer: Customer, target: Slot, path: str, wire: str
) -> None:
    """Identity, cookies, organisations and unknown `anthropic-` names stay here."""
    answer = send(
        abused, customer, path, target.model(wire), SAY,
        connection="close, authorization, x-api-key, host", **HOSTILE_HEADERS,
    )  # fmt: skip

    assert answer.status == 200
    (exchange,) = target.exchanges
    names = {name for name, _ in exchange.headers}
    assert names <= KNOWN
    credentials = {*exchange.header("authorization"), *exchange.header("x-api-key")}
    assert credentials <= {UPSTREAM_KEY, f"Bearer {UPSTREAM_KEY}"}
    assert credentials


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json; charset=utf-7",
        "application/json; charset=utf-16",
        "multipart/form-data; boundary=json",
        "text/plain; json",
    ],
)
@pytest.mark.parametrize(("path", "wire"), WIRES)
def test_the_upstream_is_told_json_or_nothing(
    abused: AbusedGateway, customer: Customer, target: Slot, path: str, wire: str, kind: str
) -> None:
    """The client's content type is refused or ignored: `application/json` goes upstream."""
    answer = send(abused, customer, path, target.model(wire), SAY, content_type=kind)

    assert answer.status in (200, 415)
    if kind.startswith("application/json; charset=utf-8") or kind == "application/json":
        assert answer.status == 200
    for exchange in target.exchanges:
        assert exchange.header("content-type") == ["application/json"]


CASES = [
    ('"Model":"free"', "Model"),
    ('"MODEL":"free"', "MODEL"),
    ('"Max_Tokens":64000', "Max_Tokens"),
    ('"max_Completion_tokens":64000', "max_Completion_tokens"),
    ('"Stream":true', "Stream"),
    ('"N":16', "N"),
    (r'"M\u006fdel":"free"', "Model"),
    ('"\\u017ftream":true', "stream"),  # a long s, which folds to s
]


@pytest.mark.parametrize(("said", "name"), CASES)
@pytest.mark.parametrize(("path", "wire"), WIRES)
def test_names_that_differ_by_case_are_refused(
    abused: AbusedGateway,
    customer: Customer,
    target: Slot,
    path: str,
    wire: str,
    said: str,
    name: str,
) -> None:
    """Some upstreams compare names without case, and would take the other one."""
    if wire == "anthropic" and name in ("N", "max_Completion_tokens"):
        pytest.skip("no member of the Messages API")
    answer = send(abused, customer, path, target.model(wire), f"{said},{SAY}")

    assert answer.status == 400, answer
    assert target.exchanges == []


PRICED = [
    (OPENAI, "openai", '"service_tier":"priority"', "service_tier"),
    (OPENAI, "openai", '"web_search_options":{"search_context_size":"high"}', "web_search_options"),
    (
        OPENAI,
        "openai",
        '"modalities":["text","audio"],"audio":{"voice":"a","format":"mp3"}',
        "audio",
    ),
    (OPENAI, "openai", '"tools":[{"type":"web_search_preview"}]', "web_search"),
    (OPENAI, "openai", '"plugins":[{"id":"web"}]', "plugins"),
    (ANTHROPIC, "anthropic", '"service_tier":"priority"', "service_tier"),
    (ANTHROPIC, "anthropic", '"speed":"fast"', "speed"),
    (ANTHROPIC, "anthropic", '"inference_geo":"us"', "inference_geo"),
    (
        ANTHROPIC,
        "anthropic",
        '"tools":[{"type":"web_search_20250305","name":"web_search","max_uses":100}]',
        "web_search",
    ),
    (
        ANTHROPIC,
        "anthropic",
        '"tools":[{"type":"code_execution_20250825","name":"code_execution"}]',
        "code_execution",
    ),
    (
        ANTHROPIC,
        "anthropic",
        '"mcp_servers":[{"type":"url","url":"https://evil.test","name":"e"}]',
        "mcp_servers",
    ),
    (OPENAI, "openai", r'"service_tie\u0072":"priority"', "priority"),
    (
        ANTHROPIC,
        "anthropic",
        r'"tools":[{"type":"web_\u0073earch_20250305","name":"w"}]',
        "20250305",
    ),
]


@pytest.mark.parametrize(("path", "wire", "said", "mark"), PRICED)
def test_what_costs_extra_is_dropped_or_refused(
    abused: AbusedGateway,
    customer: Customer,
    target: Slot,
    path: str,
    wire: str,
    said: str,
    mark: str,
) -> None:
    """Features with a price that is not configured do not reach the upstream by default."""
    answer = send(abused, customer, path, target.model(wire), f"{said},{SAY}")

    assert answer.status in (200, 400), answer
    for exchange in target.exchanges:
        assert mark.encode() not in exchange.body


@pytest.mark.parametrize(
    ("path", "wire", "said"),
    [
        (OPENAI, "anthropic", '"service_tier":"priority"'),
        (ANTHROPIC, "openai", '"service_tier":"priority","speed":"fast"'),
        ("/v1/responses", "openai", '"service_tier":"priority","input":"x"'),
        ("/v1/responses", "openai", '"tools":[{"type":"web_search"}],"input":"x"'),
    ],
)
def test_what_costs_extra_does_not_survive_translation(
    abused: AbusedGateway, customer: Customer, target: Slot, path: str, wire: str, said: str
) -> None:
    """No priced parameter reaches an upstream of the other wire."""
    rest = "" if "input" in said else "," + SAY
    answer = send(abused, customer, path, target.model(wire), said + rest)

    assert answer.status in (200, 400), answer
    for exchange in target.exchanges:
        for mark in (b"priority", b"web_search", b"speed"):
            assert mark not in exchange.body


@pytest.mark.parametrize("beta", ["fast-mode-2026-02-01", "context-1m-2025-08-07"])
def test_betas_that_cost_extra_stay_here(
    abused: AbusedGateway, customer: Customer, target: Slot, beta: str
) -> None:
    """Priced betas are removed from the header; the others are forwarded."""
    answer = send(
        abused, customer, ANTHROPIC, target.model("anthropic"), SAY,
        anthropic_beta=f"{beta},interleaved-thinking-2025-05-14", anthropic_version="2023-06-01",
    )  # fmt: skip

    assert answer.status in (200, 400)
    for exchange in target.exchanges:
        sent = ",".join(exchange.header("anthropic-beta"))
        assert beta not in sent
        assert "interleaved-thinking-2025-05-14" in sent


def test_ordinary_tools_go_along_as_they_came(
    abused: AbusedGateway, customer: Customer, target: Slot
) -> None:
    """A client's own tool, even one named like a priced one, is no server tool."""
    tool = '{"name":"web_search","input_schema":{"type":"object"}}'
    said = f'"tools":[{tool}],{SAY}'
    answer = send(abused, customer, ANTHROPIC, target.model("anthropic"), said)

    assert answer.status == 200
    (exchange,) = target.exchanges
    assert exchange.json["tools"] == [json.loads(tool)]


def test_cache_writes_for_an_hour_cost_more(abused: AbusedGateway) -> None:
    """They are twice the input's price upstream, and by default here."""
    upstream = abused.take()
    paid = []
    for minutes in ("5m", "1h"):
        buyer = abused.customer("10")
        written = {f"ephemeral_{minutes}_input_tokens": 100_000}
        usage = {
            "input_tokens": 0,
            "cache_creation_input_tokens": 100_000,
            "cache_creation": written,
            "output_tokens": 0,
        }
        upstream.plays(says(message(usage)))
        block = (
            f'{{"type":"text","text":"s","cache_control":{{"type":"ephemeral","ttl":"{minutes}"}}}}'
        )
        send(abused, buyer, ANTHROPIC, upstream.model("anthropic"), f'"system":[{block}],{SAY}')
        paid.append(abused.spent(buyer, "10"))

    assert paid == [Decimal("0.1"), Decimal("0.20")]
