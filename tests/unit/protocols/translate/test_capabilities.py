"""Dialects and their overrides."""

from __future__ import annotations

from typing import get_args

import pytest

from gateway.protocols.translate.capabilities import DIALECTS, capabilities
from gateway.settings import Dialect


def nested(levels: int) -> object:
    return {"a": nested(levels - 1)} if levels else 1


def test_every_dialect_of_the_settings_has_capabilities():
    """The configuration can name no other."""
    assert set(get_args(Dialect)) == set(DIALECTS)


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("images", False, False),
        ("images", "no", False),
        ("top_k", "pass", True),
        ("sampling", False, "drop"),
        ("midconv_system", "user", "user"),
        ("efforts", ["low", "high"], ("low", "high")),
        ("efforts", "low high", ("low", "high")),
        ("efforts", None, ()),
        ("tool_choice", ["auto", "any"], ("auto", "required")),
        ("structured", None, None),
        ("structured", "none", None),
        ("thinking", "vllm", "vllm"),
        ("reasoning_in", False, None),
        ("reasoning_fill", " ", " "),
        ("prefill", "continue_final_message", "vllm"),
        ("extra_body", {"a": 1}, b'{"a":1}'),
        ("stop_max", 0, 0),
        ("max_output_tokens", 4096, 4096),
    ],
)
def test_capability_may_be_written_in_several_ways(name, written, value):
    """What people write is brought to one form."""
    assert getattr(capabilities("generic", {name: written}), name) == value


def test_other_spellings_of_names_are_known():
    """The documentation's table says `strict tools`."""
    assert capabilities("generic", {"strict": True}).strict_tools
    assert not capabilities("generic", {"vision": False}).images


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"imagse": True}, "unknown capability 'imagse'"),
        ({"images": "maybe"}, "capability 'images'"),
        ({"stop_max": "four"}, "capability 'stop_max'"),
        ({"prefill": "always"}, "capability 'prefill'"),
        ({"extra_body": 5}, "capability 'extra_body'"),
        ({"extra_body": nested(33)}, "capability 'extra_body': more than 32 levels"),
    ],
)
def test_wrong_override_is_named(overrides, words):
    """A misspelled name is reported at start."""
    with pytest.raises(ValueError, match=words):
        capabilities("generic", overrides)


def test_unknown_dialect_is_named():
    """The message lists the known ones."""
    with pytest.raises(ValueError, match="unknown dialect 'x'"):
        capabilities("x", {})
