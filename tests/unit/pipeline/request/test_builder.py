"""One attempt's request: the client's own bytes, or a translation; never the client's secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.catalogue import Catalogue
from gateway.core.model import Deployment, Endpoint, Wire
from gateway.core.routing.plan import plan
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.request.builder import RequestBuilder, capabilities_of
from gateway.pipeline.request.context import ResponseTransforms
from gateway.pipeline.request.reading import parse_request
from gateway.ports import Headers, UpstreamRequest
from gateway.protocols.native_chat import NativeLimits
from gateway.protocols.translate.stream import StreamTranslator
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    CLOCKS,
    OPENAI_BODY,
    RAW_KEY,
    a_context,
    a_deployment,
    a_model,
    a_provider,
    asking,
)

CALLERS: Headers = [
    (b"authorization", b"Bearer " + RAW_KEY.encode()),
    (b"x-api-key", RAW_KEY.encode()),
    (b"cookie", b"a=b"),
    (b"x-forwarded-for", b"192.0.2.1"),
    (b"anthropic-version", b"2026-10-21"),
    (b"anthropic-beta", b"one,two"),
]


def prepared(
    body: bytes,
    deployment: Deployment,
    endpoint: Endpoint = Endpoint.CHAT_COMPLETIONS,
    **given: Any,
) -> tuple[UpstreamRequest, ResponseTransforms, Call]:
    """What is made of a request for the deployment."""
    model = a_model(deployment)
    catalogue = Catalogue("capio/", (model,), (deployment.provider,), {"m": model})
    front = parse_request(endpoint, body, created=7, limits=NativeLimits())
    call = Call("req_1", endpoint, endpoint.wire, 0.0)
    call.model, call.stream, call.model_asked = model, front.fields.stream, "m"
    (candidate,) = plan(model, front.wire, endpoint).candidates
    context = a_context(call, front, CALLERS, session_id="session-1", **given)
    request, transforms = RequestBuilder(catalogue).prepare(context, candidate)
    return request, transforms, call


def hides_usage(transforms: ResponseTransforms) -> bool:
    """Whether the client does not get the usage event."""
    return not transforms.transform.feed(b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n')


def deployed(*wires: Wire, **given: Any) -> Deployment:
    """A deployment that speaks these wires."""
    return a_deployment(a_provider(wires=wires or (Wire.OPENAI,), **given))


def test_own_dialect_changes_the_model_and_nothing_else() -> None:
    """Spaces, order and unknown members stay."""
    body = b'{ "x" : 1.0, "model" : "m", "messages":[ ], "zz":{"a":[1e5]} }'

    request, transforms, _ = prepared(body, deployed())

    assert request.body == body.replace(b'"m"', b'"up-m"', 1)
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert (transforms.translated, transforms.reshape) == (False, ())


@pytest.mark.parametrize("wire", list(Wire))
@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.CHAT_COMPLETIONS, OPENAI_BODY),
        (Endpoint.MESSAGES, ANTHROPIC_BODY),
        (Endpoint.RESPONSES, b'{"model":"m","input":"Hi"}'),
        (Endpoint.NATIVE_CHAT, b'{"model":"m","input":"Hi"}'),
    ],
)
def test_no_secret_of_the_client_goes_to_an_upstream(
    wire: Wire, endpoint: Endpoint, body: bytes
) -> None:
    """Neither its key nor its address or cookies, on any way."""
    request, _, _ = prepared(body, deployed(wire), endpoint)

    sent = b"\n".join(name + b": " + value for name, value in request.headers) + request.body
    assert RAW_KEY.encode() not in sent
    assert b"192.0.2.1" not in sent
    assert b"cookie" not in sent
    assert dict(request.headers)[b"host"] == b"up.test"


def test_own_dialect_carries_the_betas() -> None:
    """An Anthropic upstream reads the client's version and betas."""
    request, _, _ = prepared(ANTHROPIC_BODY, deployed(Wire.ANTHROPIC), Endpoint.MESSAGES)

    headers = dict(request.headers)
    assert headers[b"anthropic-version"] == b"2026-10-21"
    assert headers[b"anthropic-beta"] == b"one,two"


def test_provider_maps_betas() -> None:
    """What the provider does not know is not sent."""
    deployment = deployed(Wire.ANTHROPIC, betas={b"one": None})

    request, _, _ = prepared(ANTHROPIC_BODY, deployment, Endpoint.MESSAGES)

    assert dict(request.headers)[b"anthropic-beta"] == b"two"


def test_provider_drops_fields() -> None:
    """Fields that a strict upstream refuses are left out."""
    deployment = deployed(drop_fields=frozenset({"thinking"}))

    request, _, _ = prepared(asking(OPENAI_BODY, thinking=1), deployment)

    assert b"thinking" not in request.body


def test_provider_strips_the_billing_line() -> None:
    """It changes at each turn and would spoil the prompt cache."""
    body = ANTHROPIC_BODY[:-1] + b',"system":"x-anthropic-billing-header: 1\\nYou are"}'
    deployment = deployed(Wire.ANTHROPIC, strip_billing_line=True)

    request, _, _ = prepared(body, deployment, Endpoint.MESSAGES)

    assert b'"system":"You are"' in request.body


@pytest.mark.parametrize(
    ("asked", "hides"),
    [
        (asking(OPENAI_BODY, stream=True), True),
        (OPENAI_BODY[:-1] + b',"stream":true,"stream_options":{"include_usage":true}}', False),
    ],
)
def test_usage_is_asked_for_and_hidden_from_who_did_not_ask(asked: bytes, hides: bool) -> None:
    """Every stream of such a provider reports its usage."""
    request, transforms, _ = prepared(asked, deployed(inject_usage=True))

    assert json.loads(request.body)["stream_options"] == {"include_usage": True}
    assert hides_usage(transforms) is hides


def test_usage_is_not_asked_for_of_whole_answers() -> None:
    """They report it anyway."""
    request, transforms, _ = prepared(OPENAI_BODY, deployed(inject_usage=True))

    assert b"stream_options" not in request.body
    assert not hides_usage(transforms)


def test_output_limit_gets_the_name_that_the_upstream_knows() -> None:
    """Reasoning models of OpenAI refuse the old name."""
    deployment = deployed(dialect="openai")
    name = capabilities_of(deployment, Wire.OPENAI).max_tokens_param

    request, _, _ = prepared(asking(OPENAI_BODY, max_tokens=5), deployment)

    assert name == "max_completion_tokens"
    assert json.loads(request.body)["max_completion_tokens"] == 5


def test_thread_is_refused_where_no_upstream_keeps_one() -> None:
    """Treating it as if it were the whole history would be wrong."""
    body = asking(ANTHROPIC_BODY)[:-1] + b',"thread":{"type":"new"}}'
    strange = deployed(Wire.ANTHROPIC, dialect="generic")
    at_home = deployed(Wire.ANTHROPIC, dialect="anthropic")

    prepared(body, at_home, Endpoint.MESSAGES)
    with pytest.raises(GatewayError) as caught:
        prepared(body, strange, Endpoint.MESSAGES)

    assert caught.value.kind in (ErrorKind.UNSUPPORTED, ErrorKind.BAD_REQUEST)


@pytest.mark.parametrize(
    ("endpoint", "body", "wire", "path"),
    [
        (Endpoint.MESSAGES, ANTHROPIC_BODY, Wire.OPENAI, "/v1/chat/completions"),
        (Endpoint.CHAT_COMPLETIONS, OPENAI_BODY, Wire.ANTHROPIC, "/v1/messages"),
        (Endpoint.RESPONSES, b'{"model":"m","input":"Hi"}', Wire.ANTHROPIC, "/v1/messages"),
    ],
)
def test_other_dialect_is_translated_both_ways(
    endpoint: Endpoint, body: bytes, wire: Wire, path: str
) -> None:
    """The request goes to the other wire's path, and a whole response is reshaped."""
    request, transforms, _ = prepared(body, deployed(wire), endpoint)

    assert request.path == path
    assert transforms.reshape
    assert transforms.translated


@pytest.mark.parametrize(
    ("endpoint", "body", "wire"),
    [
        (Endpoint.MESSAGES, asking(ANTHROPIC_BODY, stream=True), Wire.OPENAI),
        (Endpoint.CHAT_COMPLETIONS, asking(OPENAI_BODY, stream=True), Wire.ANTHROPIC),
        (Endpoint.RESPONSES, b'{"model":"m","input":"Hi","stream":true}', Wire.OPENAI),
        (Endpoint.RESPONSES, b'{"model":"m","input":"Hi","stream":true}', Wire.ANTHROPIC),
    ],
)
def test_stream_of_another_dialect_has_a_translator(
    endpoint: Endpoint, body: bytes, wire: Wire
) -> None:
    """Events are asked for, and turned into the client's."""
    request, transforms, _ = prepared(body, deployed(wire), endpoint)

    assert isinstance(transforms.transform, StreamTranslator)
    assert dict(request.headers)[b"accept"] == b"text/event-stream"


def test_what_a_translation_drops_is_noted() -> None:
    """The dropped fields are listed in a header."""
    _, _, call = prepared(asking(ANTHROPIC_BODY, top_k=5), deployed(), Endpoint.MESSAGES)

    assert call.dropped == ("top_k",)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (OPENAI_BODY, CLOCKS.first_byte_s),
        (asking(OPENAI_BODY, stream=True), CLOCKS.first_content_s),
    ],
)
def test_head_of_a_stream_must_come_sooner(body: bytes, seconds: float) -> None:
    """A whole response begins when it is complete."""
    request, _, _ = prepared(body, deployed())

    assert request.head_timeout_s == seconds


@pytest.mark.parametrize(
    ("endpoint", "body", "wire", "path"),
    [
        (
            Endpoint.EMBEDDINGS,
            b'{"model":"m","input":"Hi"}',
            Wire.OPENAI,
            "/v1/embeddings",
        ),
        (
            Endpoint.COUNT_TOKENS,
            ANTHROPIC_BODY,
            Wire.ANTHROPIC,
            "/v1/messages/count_tokens",
        ),
    ],
)
def test_relayed_endpoints_have_paths_of_their_own(
    endpoint: Endpoint, body: bytes, wire: Wire, path: str
) -> None:
    """They are not translated."""
    request, _, _ = prepared(body, deployed(wire), endpoint)

    assert request.path == path


def test_thoughts_are_left_out_when_they_were_refused() -> None:
    """On the same wire and in a translation."""
    thoughts = (
        b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"},{"role":'
        b'"assistant","content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},'
        b'{"type":"text","text":"A"}]},{"role":"user","content":"B"}]}'
    )

    kept, _, _ = prepared(thoughts, deployed(Wire.ANTHROPIC), Endpoint.MESSAGES)
    left, _, _ = prepared(
        thoughts, deployed(Wire.ANTHROPIC), Endpoint.MESSAGES, without_reasoning=True
    )

    assert b"c2ln" in kept.body
    assert b"thinking" not in left.body


def test_capability_that_does_not_exist_is_found_at_the_start() -> None:
    """Not at the first call."""
    deployment = deployed(caps={"no_such_capability": True})
    model = a_model(deployment)

    with pytest.raises(ValueError, match="no_such_capability"):
        RequestBuilder(Catalogue("", (model,), (deployment.provider,), {}))


HISTORY = (
    b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"},'
    b'{"role":"system","content":"note"},{"role":"assistant","content":'
    b'[{"type":"thinking","thinking":"hm","signature":"gw1."},{"type":"text","text":"a"}]}]}'
)


@pytest.mark.parametrize(
    ("dialect", "keeps_reasoning", "keeps_system"),
    [("anthropic", False, True), ("anthropic-legacy", False, False), ("deepseek", True, False)],
)
def test_relayed_messages_follow_the_capabilities_of_the_endpoint(
    dialect: str, keeps_reasoning: bool, keeps_system: bool
) -> None:
    """Only Anthropic verifies signatures, and only its newer models accept system messages."""
    request, _, _ = prepared(HISTORY, deployed(Wire.ANTHROPIC, dialect=dialect), Endpoint.MESSAGES)

    assert (b'"hm"' in request.body) is keeps_reasoning
    assert (b'{"role":"system","content":"note"}' in request.body) is keeps_system


def test_relayed_chat_names_what_was_left_out() -> None:
    """DeepSeek refuses a forced tool while it thinks."""
    body = b'{"model":"m","messages":[],"tool_choice":"required","thinking":{"type":"enabled"}}'

    request, _, call = prepared(body, deployed(dialect="deepseek"))

    assert json.loads(request.body)["thinking"] == {"type": "disabled"}
    assert call.dropped == ("thinking",)


@pytest.mark.parametrize(("dialect", "asks"), [("generic", True), ("mistral", False)])
def test_usage_is_requested_only_where_the_option_is_understood(dialect: str, asks: bool) -> None:
    """Mistral refuses `stream_options`, and sends the usage without it."""
    body = b'{"model":"m","messages":[],"stream":true}'

    deployment = deployed(dialect=dialect, inject_usage=True)
    request, transforms, _ = prepared(body, deployment)

    assert (b"include_usage" in request.body) is asks
    assert hides_usage(transforms) is asks
