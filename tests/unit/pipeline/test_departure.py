"""Which calls are read on when their client leaves."""

from __future__ import annotations

import pytest

from gateway.core.model import Endpoint, Wire
from gateway.core.routing.plan import Candidate
from gateway.pipeline.call import Call
from gateway.pipeline.departure import may_hide_reasoning
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.translate.capabilities import capabilities
from tests.support.pipeline_fakes import a_deployment, a_provider


@pytest.mark.parametrize(
    ("wire", "members", "asks"),
    [
        (Wire.OPENAI, b"", None),
        (Wire.OPENAI, b',"reasoning_effort":null', None),
        (Wire.OPENAI, b',"reasoning_effort":"low"', True),
        (Wire.OPENAI, b',"reasoning_effort":"none"', False),
        (Wire.OPENAI, b',"reasoning_effort":"none","reasoning":{"effort":"high"}', True),
        (Wire.OPENAI, b',"reasoning":{"effort":"high"}', True),
        (Wire.OPENAI, b',"thinking":{"type":"enabled"}', True),
        (Wire.ANTHROPIC, b"", None),
        (Wire.ANTHROPIC, b',"thinking":{"type":"adaptive"}', True),
        (Wire.ANTHROPIC, b',"output_config":{"effort":"max"}', True),
        (Wire.ANTHROPIC, b',"reasoning_effort":"none"', None),
    ],
)
@pytest.mark.parametrize("pad", [0, 10_000])
def test_request_tells_whether_it_asks_for_reasoning(
    wire: Wire, members: bytes, asks: bool | None, pad: int
) -> None:
    """In small bodies and in those whose members are walked."""
    body = b'{"model":"m","messages":[],"pad":"%b"%b}' % (b"x" * pad, members)

    assert decode_call(body, wire).asks_reasoning is asks


@pytest.mark.parametrize(
    ("dialect", "wire", "asked", "hides"),
    [
        ("generic", Wire.OPENAI, None, False),
        ("generic", Wire.OPENAI, True, True),
        ("openai", Wire.OPENAI, None, True),
        ("openai", Wire.OPENAI, False, False),
        ("gemini", Wire.OPENAI, None, True),
        ("deepseek", Wire.OPENAI, True, False),
        ("vllm", Wire.OPENAI, None, False),
        ("anthropic", Wire.ANTHROPIC, None, False),
        ("anthropic", Wire.ANTHROPIC, True, True),
    ],
)
def test_reasoning_may_be_hidden_by_dialect_and_request(
    dialect: str, wire: Wire, asked: bool | None, hides: bool
) -> None:
    """Reasoning that is shown as content is counted and needs no report."""
    candidate = Candidate(a_deployment(a_provider(wires=[wire])), wire)

    assert may_hide_reasoning(candidate, capabilities(dialect, {}), asked) is hides


def test_price_or_capability_of_one_model_decides_before_its_dialect() -> None:
    """A price for reasoning says that it reasons, no efforts that it does not."""
    candidate = Candidate(a_deployment(a_provider()), Wire.OPENAI)
    plain = capabilities("openai", {"efforts": []})
    priced = candidate._replace(
        deployment=type(candidate.deployment)(
            candidate.deployment.provider, "m", (Wire.OPENAI,), {}, prices_reasoning=True
        )
    )

    assert not may_hide_reasoning(candidate, plain, None)
    assert may_hide_reasoning(priced, capabilities("generic", {}), None)


@pytest.mark.parametrize(
    ("endpoint", "drains", "hides", "reads_on"),
    [
        (Endpoint.CHAT_COMPLETIONS, None, True, True),
        (Endpoint.CHAT_COMPLETIONS, None, False, False),
        (Endpoint.CHAT_COMPLETIONS, False, True, False),
        (Endpoint.CHAT_COMPLETIONS, True, False, True),
        (Endpoint.EMBEDDINGS, True, True, False),
        (Endpoint.COUNT_TOKENS, True, True, False),
    ],
)
def test_provider_decides_before_the_model(
    endpoint: Endpoint, drains: bool | None, hides: bool, reads_on: bool
) -> None:
    """What has no output has nothing hidden in it."""
    call = Call("req_1", endpoint, endpoint.wire, 0.0)
    without_deployment = call.reads_on
    call.begin_attempt(a_deployment(a_provider(drains=drains)), endpoint.wire, 0.0)
    call.hides_reasoning = hides

    assert not without_deployment
    assert call.reads_on is reads_on
