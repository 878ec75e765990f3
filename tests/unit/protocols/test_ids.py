"""Tool-call ids, tool names and synthetic signatures."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.ids import (
    UnusedIds,
    from_encoded_id,
    is_legal,
    message_id,
    missing_id,
    short_name,
    signature_of,
    thought_signature_in,
    to_anthropic_id,
    to_openai_id,
)


@pytest.mark.parametrize("padding", ["", "=", "==", "==YQ=="])
def test_signature_ends_at_its_padding(padding):
    """Python 3.14 reads on, which earlier versions do not."""
    assert thought_signature_in(signature_of("google") + padding) == "google"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=120)


@given(TEXTS)
def test_upstream_id_comes_back_exactly(tool_id):
    """Moonshot's template depends on its own ids."""
    client_id = to_anthropic_id(tool_id)

    assert all(c.isascii() and (c.isalnum() or c in "_-") for c in client_id)
    if not tool_id.startswith("gwid_"):
        assert from_encoded_id(client_id) == tool_id
        assert to_openai_id(client_id, None) == tool_id


@given(TEXTS, st.integers(37, 64))
def test_shortened_id_fits_and_is_stable(tool_id, longest):
    """The same function serves a call and its result."""
    short = to_openai_id(tool_id, longest)

    assert len(short) <= max(longest, 37)
    assert short == to_openai_id(tool_id, longest)


def test_foreign_text_behind_the_prefix_is_left_alone():
    """Only what the gateway encoded is decoded."""
    for tool_id in ("gwid_", "gwid_%%%", "gwid_gg", "gwid_A"):
        assert from_encoded_id(tool_id) == tool_id


def test_missing_and_repeated_ids_are_deterministic():
    """The same response gives the same ids."""
    assert missing_id("chatcmpl-1.x", 2) == "toolu_chatcmpl-1x_2"
    ids = UnusedIds({"b", "a_2"})

    assert [ids.take(name) for name in ("a", "a", "b", "a", "a_2", "a")] == [
        "a", "a_3", "b_2", "a_4", "a_2_2", "a_5"
    ]  # fmt: skip


def test_message_id_keeps_legal_characters_only():
    """None is left: unknown."""
    assert message_id("chatcmpl-9:ä") == "msg_chatcmpl-9"
    assert message_id("") == message_id(None) == "msg_unknown"


@given(TEXTS)
def test_short_name_is_legal_and_keeps_a_legal_one(name):
    """64 characters of the common alphabet."""
    short = short_name(name)

    assert is_legal(short)
    assert (short == name) == is_legal(name)


@given(TEXTS)
def test_gemini_signature_survives_in_the_synthetic_one(signature):
    """It comes back with the history."""
    assert thought_signature_in(signature_of(signature)) == signature


def test_signature_without_payload_is_none():
    """A plain reasoning, a real signature or damage carry nothing."""
    for signature in ("", "gw1.", "gw1.%%", "gw1.AAAA", "ErUBCkYI"):
        assert thought_signature_in(signature) is None


@pytest.mark.parametrize(
    "tool_id", ["call_0", "toolu_01AbCdEf", "abc_efghi", "abcdefgh\u00e9", "a"]
)
def test_ids_of_an_exact_form_are_hashed(tool_id):
    """Mistral accepts nine letters and digits; the same id always gives the same one."""
    made = to_openai_id(tool_id, 9, exact=True)

    assert re.fullmatch("[a-z0-9]{9}", made)
    assert to_openai_id(made, 9, exact=True) == made
    assert to_openai_id("aB3dE5gH9", 9, exact=True) == "aB3dE5gH9"
