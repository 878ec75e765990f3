"""Packed reasoning."""

from __future__ import annotations

from gateway.protocols.openai_responses.reasoning import pack_reasoning, unpack_reasoning

MOST = 4096


def test_packed_reasoning_has_a_bounded_number_of_braces() -> None:
    """Each may begin an object; the outermost one counts, too."""
    fits, beyond = "{" * (MOST - 1), "{" * MOST

    unpacked = unpack_reasoning(pack_reasoning(fits, []))

    assert unpacked is not None
    assert unpacked.r == fits
    assert unpack_reasoning(pack_reasoning(beyond, [])) is None
