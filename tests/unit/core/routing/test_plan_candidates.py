"""The plan of a call: native before translated, each deployment at most once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import (
    Clocks,
    Deployment,
    Endpoint,
    Model,
    Origin,
    Prices,
    Provider,
    Wire,
    WireRoute,
)
from gateway.core.routing.plan import Candidate, plan

BOTH = (Wire.OPENAI, Wire.ANTHROPIC)
CHAT = [Endpoint.CHAT_COMPLETIONS, Endpoint.MESSAGES, Endpoint.RESPONSES, Endpoint.NATIVE_CHAT]


def deployment(name: str, wires: tuple[Wire, ...], *, count_tokens: bool = True) -> Deployment:
    origin = Origin(f"{name}.example", 443, tls=True)
    provider = Provider(
        name=name,
        dialect="generic",
        wires={wire: WireRoute(origin, "", (), count_tokens) for wire in wires},
        clocks=Clocks(1, 1, 1, 1, 1),
        inject_usage=True,
        caps={},
    )
    return Deployment(provider, "up", wires, {})


def model(*deployments: Deployment) -> Model:
    return Model("m", (), "M", 0, 1000, 100, Prices(0, 0, 0, 0, 0), deployments)


@pytest.mark.parametrize("endpoint", CHAT)
def test_plan_native_deployments_come_before_translated_ones(endpoint: Endpoint) -> None:
    """A deployment that speaks the client's wire wins over the order of the catalogue."""
    other = Wire.ANTHROPIC if endpoint.wire is Wire.OPENAI else Wire.OPENAI
    first, second, third = (
        deployment("a", (other,)),
        deployment("b", BOTH),
        deployment("c", (endpoint.wire,)),
    )

    result = plan(model(first, second, third), endpoint.wire, endpoint)

    assert result.candidates == (
        Candidate(second, endpoint.wire),
        Candidate(third, endpoint.wire),
        Candidate(first, other),
    )
    assert result.reason is None
    assert result.candidates[2].route is first.provider.wires[other]


def test_plan_embeddings_are_never_translated() -> None:
    """Embeddings exist on the OpenAI wire only."""
    chat, openai = deployment("a", (Wire.ANTHROPIC,)), deployment("b", BOTH)

    result = plan(model(chat, openai), Wire.OPENAI, Endpoint.EMBEDDINGS)
    nothing = plan(model(chat), Wire.OPENAI, Endpoint.EMBEDDINGS)

    assert result.candidates == (Candidate(openai, Wire.OPENAI),)
    assert nothing.candidates == ()
    assert nothing.is_final
    assert nothing.reason == (
        "The model 'm' does not serve embeddings; use another model: "
        "none of its deployments is on the openai wire."
    )


def test_plan_token_count_needs_a_provider_that_counts() -> None:
    """Where no upstream counts, the plan is empty and the gateway estimates."""
    silent = deployment("a", BOTH, count_tokens=False)
    counting = deployment("b", (Wire.ANTHROPIC,))
    translated = deployment("c", (Wire.OPENAI,))

    result = plan(model(silent, counting, translated), Wire.ANTHROPIC, Endpoint.COUNT_TOKENS)
    nothing = plan(model(silent, translated), Wire.ANTHROPIC, Endpoint.COUNT_TOKENS)

    assert result.candidates == (Candidate(counting, Wire.ANTHROPIC),)
    assert nothing.candidates == ()
    assert nothing.reason is not None


def test_plan_model_without_deployments_says_so() -> None:
    """An empty plan always has a reason."""
    result = plan(model(), Wire.OPENAI, Endpoint.CHAT_COMPLETIONS)

    assert result == ((), "The model 'm' has no deployment.", False)


_WIRES = st.sampled_from([(Wire.OPENAI,), (Wire.ANTHROPIC,), BOTH, BOTH[::-1]])


@given(
    st.lists(st.tuples(_WIRES, st.booleans()), max_size=6),
    st.sampled_from(Endpoint),
)
def test_plan_of_any_model_is_native_first_without_duplicates(
    kinds: list[tuple[tuple[Wire, ...], bool]], endpoint: Endpoint
) -> None:
    """A plan is a duplicate-free part of the deployments, native first, in catalogue order."""
    deployments = [
        deployment(f"p{i}", wires, count_tokens=counts) for i, (wires, counts) in enumerate(kinds)
    ]

    result = plan(model(*deployments), endpoint.wire, endpoint)

    positions = [deployments.index(each.deployment) for each in result.candidates]
    native = [each.wire is endpoint.wire for each in result.candidates]
    assert len(set(positions)) == len(positions)
    assert native == sorted(native, reverse=True)
    assert positions[: sum(native)] == sorted(positions[: sum(native)])
    assert positions[sum(native) :] == sorted(positions[sum(native) :])
    assert all(each.wire in each.deployment.wires for each in result.candidates)
    assert (result.reason is None) == bool(result.candidates)
