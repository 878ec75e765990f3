"""Limits as operators give them: read, checked and merged."""

from __future__ import annotations

import pytest

from gateway.core.limits import KeyLimits, Limits
from gateway.operations.limits import (
    KeyLimitsBody,
    LimitsBody,
    merge_key_limits,
    merge_limits,
    read_key_limits,
    read_limits,
)
from gateway.operations.values import InvalidValueError


def test_limits_read_dollars_and_nano_dollars() -> None:
    """Both forms of a budget give the same limit; absent limits are not set."""
    body = LimitsBody(rpm=5, budget_day="2.50", budget_month_nanousd=7)

    assert read_limits(body) == Limits(
        rpm=5, budget_day_nanousd=2_500_000_000, budget_month_nanousd=7
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (KeyLimitsBody(rpm=0), "rpm"),
        (KeyLimitsBody(budget_day="1", budget_day_nanousd=1), "budget_day"),
        (KeyLimitsBody(budget_day="much"), "budget_day"),
        (KeyLimitsBody(models={"m": LimitsBody(tpm=-1)}), "models.m.tpm"),
        (KeyLimitsBody(models={"m": LimitsBody(budget_day="-")}), "models.m.budget_day"),
    ],
)
def test_limits_out_of_range_name_the_field(body: KeyLimitsBody, param: str) -> None:
    """The error carries the path of the field in the request."""
    with pytest.raises(InvalidValueError) as caught:
        read_key_limits(body)

    assert caught.value.param == param
    assert f"'{param}'" in caught.value.message


def test_merge_changes_and_removes_single_limits() -> None:
    """Limits that are not named are kept; None removes a limit."""
    merged = merge_limits(Limits(rpm=1, tpm=2), {"rpm": None, "concurrency": 3})

    assert merged == Limits(tpm=2, concurrency=3)


def test_merge_for_a_model_keeps_the_keys_own_limits() -> None:
    """A change for one model keeps the key's limits and those of other models."""
    limits = KeyLimits(rpm=1, models={"a": Limits(rpm=2)})

    changed = merge_key_limits(limits, {"tpm": 9}, "b")
    removed = merge_key_limits(changed, {"rpm": None}, "a")
    own = merge_key_limits(removed, {"rpm": None}, None)

    assert changed == KeyLimits(rpm=1, models={"a": Limits(rpm=2), "b": Limits(tpm=9)})
    assert removed == KeyLimits(rpm=1, models={"b": Limits(tpm=9)})
    assert own == KeyLimits(models={"b": Limits(tpm=9)})


def test_merge_of_a_limit_out_of_range_names_it() -> None:
    """The error has the path of the limit and its range."""
    with pytest.raises(InvalidValueError) as caught:
        merge_limits(Limits(rpm=1), {"tpm": 5, "rpm": 0}, "limits.")

    assert caught.value.message == "'limits.rpm' is out of range: Expected `int` >= 1."
