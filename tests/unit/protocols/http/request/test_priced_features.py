"""What makes a call dearer than its tokens is dropped or refused, unless the provider allows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from gateway.core.catalogue import Catalogue
from gateway.core.model import Deployment, Endpoint, TokenPrices, Wire
from gateway.core.routing.plan import plan
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.request.builder import RequestBuilder
from gateway.pipeline.request.reading import parse_request
from gateway.ports import UpstreamRequest
from gateway.protocols.http.request.call_fields import PricedUse
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.http.request.priced_features import dropped_fields, permitted_betas
from gateway.protocols.native_chat import NativeLimits
from gateway.settings.schema import PricedFeature
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    OPENAI_ANSWER,
    FakeClient,
    FakeUpstreamResponse,
    a_context,
    a_deployment,
    a_model,
    a_provider,
    json_head,
)

FEATURES = frozenset(get_args(PricedFeature))
REQUESTS = Path(__file__).parents[4] / "golden" / "requests"
WIRES = {Wire.OPENAI: Endpoint.CHAT_COMPLETIONS, Wire.ANTHROPIC: Endpoint.MESSAGES}
LARGE = "x" * 5000
"""Beyond the size up to which a body is decoded in one piece."""


def uses(wire: Wire, members: str, text: str = "Hi") -> tuple[PricedUse, ...]:
    """The priced features of a request with these members."""
    body = f'{{"model":"m","messages":[{{"role":"user","content":"{text}"}}],{members}}}'
    return decode_call(body.encode(), wire).priced


HINTS = [
    ('"service_tier":"priority"', "service_tier", "service_tier"),
    ('"service_tier":"flex"', "service_tier", "service_tier"),
    ('"service_tier" : {"x":1}', "service_tier", "service_tier"),
    ('"service\\u005ftier":"priority"', "service_tier", "service_tier"),
    ('"speed":"fast"', "speed", "fast_mode"),
    ('"speed":"f\\u0061st"', "speed", "fast_mode"),
    ('"inference_geo":"us"', "inference_geo", "inference_geo"),
    ('"prompt_cache_retention":"24h"', "prompt_cache_retention", "cache_retention"),
    ('"models":["dear/model"]', "models", "upstream_routing"),
    ('"fallbacks":[{"model":"dear"}]', "fallbacks", "upstream_routing"),
    ('"provider":{"sort":"throughput"}', "provider", "upstream_routing"),
    ('"preset":"mine"', "preset", "upstream_routing"),
]
REFUSED = [
    ('"web_search_options":{}', "web_search_options", "web_search"),
    ('"search_parameters":{"mode":"on"}', "search_parameters", "web_search"),
    ('"enable_search":true', "enable_search", "web_search"),
    ('"plugins":[{"id":"web"}]', "plugins", "plugins"),
    ('"mcp_servers":[{"url":"http://10.0.0.1/"}]', "mcp_servers", "mcp_servers"),
    ('"container":{"skills":[]}', "container", "code_execution"),
    ('"audio":{"voice":"x"}', "audio", "audio_output"),
    ('"modalities":["text","audio"]', "modalities", "audio_output"),
    ('"modalities":["image"]', "modalities", "image_output"),
    ('"modalities":["video"]', "modalities", "audio_output"),
    ('"tools":[{"type":"web_search_20250305","name":"web_search"}]', "tools", "web_search"),
    ('"tools":[{"type":"web\\u005fsearch_20250305"}]', "tools", "web_search"),
    ('"tools":[{"t\\u0079pe":"web_search"}]', "tools", "web_search"),
    ('"t\\u006fols":[{"type":"web_search"}]', "tools", "web_search"),
    ('"tools":[{"name":"a"},{"type":"builtin_function"}]', "tools", "web_search"),
    ('"tools":[{"type":"openrouter:web_search"}]', "tools", "web_search"),
    ('"tools":[{"type":"web_fetch_20250910"}]', "tools", "web_fetch"),
    ('"tools":[{"type":"code_execution_20250825"}]', "tools", "code_execution"),
    ('"tools":[{"type":"code_interpreter"}]', "tools", "code_execution"),
    ('"tools":[{"type":"mcp_toolset"}]', "tools", "mcp_servers"),
    ('"tools":[{"type":"image_generation"}]', "tools", "hosted_tools"),
    ('"tools":[{"type":"file_search"}]', "tools", "hosted_tools"),
    ('"tools":[{"type":"advisor_20260301"}]', "tools", "hosted_tools"),
    ('"tools":[{"type":"FUNCTION"}]', "tools", "hosted_tools"),
]
FREE = [
    '"service_tier":"auto"', '"service_tier":"default"', '"service_tier":"standard_only"',
    '"service_tier":null', '"speed":"standard"', '"inference_geo":"global"',
    '"prompt_cache_retention":"in_memory"', '"enable_search":false', '"mcp_servers":[]',
    '"container":null', '"plugins":[]', '"modalities":["text"]', '"modalities":null',
    '"tools":null', '"tools":[]', '"tools":[{"name":"web_search","input_schema":{}}]',
    '"tools":[{"type":"function","function":{"name":"web_search"}}]',
    '"tools":[{"type":"custom","name":"x"},{"type":null}]',
    '"tools":[{"type":"bash_20250124"},{"type":"text_editor_20250728"}]',
    '"tools":[{"type":"computer_20250124"},{"type":"memory_20250818"}]',
    '"tools":[{"type":"tool_search_tool_regex_20251119"}]',
    '"metadata":{"service_tier":"priority","tools":[{"type":"web_search"}]}',
    '"store":true,"n":4,"prediction":{"type":"content","content":"x"}',
]  # fmt: skip


@pytest.mark.parametrize("text", ["Hi", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("wire", list(Wire))
@pytest.mark.parametrize(("members", "field", "feature"), [*HINTS, *REFUSED])
def test_priced_member_is_found_however_it_is_spelled(
    wire: Wire, members: str, field: str, feature: str, text: str
) -> None:
    """On both wires, in bodies of any size, escaped or not; each feature can be allowed."""
    (use,) = uses(wire, members, text)

    assert (use.field, use.feature) == (field, feature)
    assert use.feature in FEATURES


@pytest.mark.parametrize("wire", list(Wire))
@pytest.mark.parametrize("members", FREE)
def test_member_without_a_price_is_none(wire: Wire, members: str) -> None:
    """Standard values, the client's own tools, and names that stand elsewhere."""
    assert uses(wire, members) == ()


@pytest.mark.parametrize(("members", "field", "feature"), HINTS)
def test_hint_is_dropped_unless_allowed(members: str, field: str, feature: str) -> None:
    """The response is the same without it."""
    found = uses(Wire.OPENAI, members)

    assert dropped_fields(found, FEATURES - {feature}) == (field,)
    assert dropped_fields(found, {feature}) == ()


@pytest.mark.parametrize(("members", "field", "feature"), REFUSED)
def test_what_the_answer_depends_on_is_refused_unless_allowed(
    members: str, field: str, feature: str
) -> None:
    """The message names the member, the tool and the feature to enable."""
    found = uses(Wire.OPENAI, members)

    with pytest.raises(GatewayError) as refused:
        dropped_fields(found, FEATURES - {feature})

    assert (refused.value.kind, refused.value.param) == (ErrorKind.UNSUPPORTED, field)
    assert refused.value.message.startswith(field)
    assert f'"{feature}"' in refused.value.message
    assert dropped_fields(found, {feature}) == ()


@pytest.mark.parametrize("members", ['"tools":"x"', '"tools":[5]', '"tools":[{"type":7}]'])
def test_tools_that_cannot_be_read_are_refused(members: str) -> None:
    """What is not understood here might be understood upstream."""
    with pytest.raises(GatewayError) as refused:
        uses(Wire.OPENAI, members)

    assert refused.value.kind is ErrorKind.BAD_REQUEST
    assert (refused.value.param or "").startswith("tools")


def test_betas_of_priced_features_are_dropped() -> None:
    """The others keep their order; what is dropped is named without the client's words."""
    headers = (
        (b"accept", b"a"),
        (b"anthropic-beta", b"claude-code-20250219, fast-mode-2026-02-01,context-1m-2025-08-07"),
        (b"anthropic-beta", b"mcp-client-2025-11-20"),
    )

    left, dropped = permitted_betas(headers, frozenset(), ())

    assert left == ((b"accept", b"a"), (b"anthropic-beta", b"claude-code-20250219"))
    assert dropped == (
        "anthropic-beta.fast_mode", "anthropic-beta.long_context", "anthropic-beta.mcp_servers",
    )  # fmt: skip


def test_betas_without_price_are_left_alone() -> None:
    """Those of Claude Code go on as they came, and so do those that are allowed or named."""
    claude_code = (
        b"claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
        b"mid-conversation-tool-changes-2026-07-01,thinking-token-count-2026-05-13,"
        b"advanced-tool-use-2025-11-20,effort-2025-11-24,fine-grained-tool-streaming-2025-05-14,"
        b"prompt-caching-2024-07-31,extended-cache-ttl-2025-04-11,structured-outputs-2025-12-15"
    )
    headers = ((b"anthropic-beta", claude_code),)
    long = ((b"anthropic-beta", b"context-1m-2025-08-07"),)

    assert permitted_betas(headers, frozenset(), ()) == (headers, ())
    assert permitted_betas(long, {"long_context"}, ()) == (long, ())
    assert permitted_betas(long, frozenset(), {b"context-1m-2025-08-07": b"x"}) == (long, ())


def prepared(
    body: bytes, deployment: Deployment, wire: Wire, headers: Any = (), **model: Any
) -> tuple[UpstreamRequest, Call]:
    """The upstream's request on the client's own wire."""
    made = msgspec.structs.replace(a_model(deployment), **model)
    endpoint = WIRES[wire]
    front = parse_request(endpoint, body, created=7, limits=NativeLimits())
    call = Call("req_1", endpoint, wire, 0.0)
    call.model, call.stream, call.model_asked = made, front.fields.stream, "m"
    (candidate,) = plan(made, wire, endpoint).candidates
    catalogue = Catalogue("capio/", (made,), (deployment.provider,), {"m": made})
    context = a_context(call, front, list(headers))
    return RequestBuilder(catalogue).prepare(context, candidate)[0], call


def test_dropped_hint_leaves_every_other_byte_and_is_named() -> None:
    """White space, order and numbers stay: prompt caches depend on them."""
    body = b'{ "model" : "m",  "service_tier":"priority" ,"messages":[ ] , "x" : 1.0 }'

    request, call = prepared(body, a_deployment(a_provider()), Wire.OPENAI)

    assert request.body == b'{ "model" : "up-m" ,"messages":[ ] , "x" : 1.0 }'
    assert call.dropped == ("service_tier",)


def test_allowed_hint_is_sent() -> None:
    """The request is the client's own."""
    body = b'{"model":"m","service_tier":"priority","messages":[]}'
    provider = a_provider(allow_features=frozenset({"service_tier"}))

    request, call = prepared(body, a_deployment(provider), Wire.OPENAI)

    assert request.body == body.replace(b'"m"', b'"up-m"', 1)
    assert call.dropped == ()


def test_responses_request_does_not_smuggle_a_tier() -> None:
    """The chat request that it becomes is checked like one that was sent."""
    front = parse_request(
        Endpoint.RESPONSES,
        b'{"model":"m","input":"Hi","service_tier":"priority"}',
        created=7,
        limits=NativeLimits(),
    )

    assert [use.feature for use in front.fields.priced] == ["service_tier"]


def test_long_context_beta_passes_where_the_model_has_its_price() -> None:
    """What is priced needs no opting in."""
    body = b'{"model":"m","max_tokens":1,"messages":[]}'
    beta = (b"anthropic-beta", b"context-1m-2025-08-07")
    deployment = a_deployment(a_provider(wires=[Wire.ANTHROPIC]))
    priced = msgspec.structs.replace(
        a_model(deployment).prices,
        long_context=TokenPrices(1, 1, 1, 1, 1),
        long_context_above=200_000,
    )

    plain, call = prepared(body, deployment, Wire.ANTHROPIC, [beta])
    long, _ = prepared(body, deployment, Wire.ANTHROPIC, [beta], prices=priced)

    assert beta not in plain.headers
    assert call.dropped == ("anthropic-beta.long_context",)
    assert beta in long.headers


async def test_deployment_that_allows_the_feature_answers() -> None:
    """One that does not is passed over; nothing was sent to it."""
    allowing = a_provider("b", allow_features=frozenset({"web_search"}))
    deployments = [a_deployment(a_provider("a")), a_deployment(allowing)]
    response = FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)
    bench = Bench(response, deployments=deployments)
    client = FakeClient(
        "/v1/chat/completions", b'{"model":"m","messages":[],"web_search_options":{}}'
    )

    await bench.run(client)

    assert client.status == 200
    assert [request.origin.host for request in bench.transport.requests] == ["b.test"]


async def test_feature_that_no_deployment_allows_is_refused_once() -> None:
    """400 in the client's dialect, without an upstream request."""
    bench = Bench(deployments=[a_deployment(a_provider("a")), a_deployment(a_provider("b"))])
    client = FakeClient(
        "/v1/chat/completions",
        b'{"model":"m","messages":[],"tools":[{"type":"web_search_preview"}]}',
    )

    await bench.run(client)

    error = json.loads(client.body)["error"]
    assert (client.status, error["param"]) == (400, "tools")
    assert "'web_search_preview'" in error["message"]
    assert "web_search" in error["message"]
    assert bench.transport.requests == []


RECORDED = sorted(path.stem for path in REQUESTS.glob("*.json") if "codex" not in path.stem)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_request_of_an_agent_passes_unchanged(name: str) -> None:
    """Claude Code, OpenCode and OpenClaw ask for nothing that is dropped."""
    # As if the upstream had signed its reasoning: the gateway's own is removed.
    body = (REQUESTS / f"{name}.json").read_bytes().replace(b'"gw1.', b'"own.')
    model = json.loads(body)["model"]
    wire = Wire.ANTHROPIC if "claude_code" in name or "messages" in name else Wire.OPENAI
    deployment = a_deployment(a_provider(wires=[wire], dialect="anthropic"))

    request, call = prepared(body, deployment, wire)

    assert call.dropped == ()
    assert request.body == body.replace(json.dumps(model).encode(), b'"up-m"', 1)
