"""Efforts that correspond to budgets of thinking tokens."""

from __future__ import annotations

import pytest

from gateway.protocols.translate.reasoning_effort import effort_of_budget


@pytest.mark.parametrize(
    ("tokens", "effort"),
    [(0, "low"), (4096, "low"), (4097, "medium"), (16_384, "medium"), (16_385, "high")],
)
def test_budget_has_an_effort_up_to_its_bound(tokens: int, effort: str) -> None:
    """The bounds belong to the lower effort."""
    assert effort_of_budget(tokens) == effort
