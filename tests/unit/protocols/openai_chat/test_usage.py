"""Usage of the OpenAI wire whose total exceeds its parts, and usage completed by estimates."""

from __future__ import annotations

import pytest

from gateway.core.model import Usage
from gateway.protocols.openai_chat.usage import read_openai_usage, settled_usage


@pytest.mark.parametrize(
    ("members", "usage"),
    [
        pytest.param(
            '"prompt_tokens":0,"completion_tokens":2,"total_tokens":12,'
            '"prompt_tokens_details":{"cached_tokens":5}',
            Usage(cache_read=5, output=7),
            id="without-a-prompt-the-excess-is-output",
        ),
        pytest.param(
            '"prompt_tokens":0,"completion_tokens":2,"total_tokens":12',
            Usage(input=10, output=2),
            id="without-a-prompt-it-is-what-the-total-has-beyond-the-completion",
        ),
        pytest.param(
            '"completion_tokens":2,"total_tokens":12',
            Usage(input=10, output=2),
            id="the-same-without-the-member",
        ),
        pytest.param(
            '"prompt_tokens":0,"completion_tokens":0,"total_tokens":12',
            None,
            id="a-total-alone-is-estimated",
        ),
        pytest.param(
            '"prompt_tokens":1,"completion_tokens":2,"total_tokens":8,'
            '"prompt_tokens_details":{"cached_tokens":5}',
            Usage(input=1, cache_read=5, output=2),
            id="a-prompt-of-one-token-excludes-its-cached-tokens",
        ),
        pytest.param(
            '"prompt_tokens":0,"completion_tokens":1,'
            '"prompt_tokens_details":{"cached_tokens":5,"cache_write_tokens":3}',
            Usage(cache_read=5, cache_write=3, output=1),
            id="without-a-prompt-the-cached-tokens-are-the-input",
        ),
        pytest.param(
            '"prompt_tokens":10,"completion_tokens":1,"cache_read_input_tokens":10',
            Usage(cache_read=10, output=1),
            id="a-prompt-that-equals-the-cached-tokens-includes-them",
        ),
        pytest.param(
            '"prompt_tokens":10,"completion_tokens":1,"cache_read_input_tokens":11',
            Usage(input=10, cache_read=11, output=1),
            id="a-prompt-below-the-cached-tokens-excludes-them",
        ),
    ],
)
def test_openai_usage_divides_the_prompt(members: str, usage: Usage | None) -> None:
    """The prompt includes cached tokens unless the total, or its own size, says otherwise."""
    assert read_openai_usage(f"{{{members}}}".encode()) == usage


@pytest.mark.parametrize(
    "reported",
    [
        Usage(input=5, cache_read=5),
        Usage(input=5, cache_write=5),
        Usage(input=3, cache_read=2, cache_write=5),
        Usage(cache_read=5, cache_write=5),
    ],
)
def test_settled_usage_keeps_reported_input(reported: Usage) -> None:
    """Any input class that was reported is billed instead of the estimate."""
    settled = settled_usage(reported, False, 1000, output_tokens=7)

    assert settled == Usage(
        input=reported.input,
        cache_read=reported.cache_read,
        cache_write=reported.cache_write,
        output=7,
    )


def test_output_without_any_input_is_completed_by_the_estimate() -> None:
    """No request has an input of 0 tokens."""
    assert settled_usage(Usage(output=7), True, 1000, output_tokens=1) == Usage(
        input=1000, output=7
    )


def test_settled_usage_without_input_takes_the_estimate() -> None:
    """The estimated output includes the reported reasoning."""
    settled = settled_usage(Usage(output=2, reasoning=4), False, 1000, output_tokens=10)

    assert settled == Usage(input=1000, output=6, reasoning=4)
