"""How faults are written, validated and chosen."""

from __future__ import annotations

import random

import msgspec
import pytest

from gateway.demo.faults import (
    KINDS,
    RANDOM_SHARES,
    Fault,
    FaultError,
    FaultPlan,
    Rule,
    parse,
    random_rules,
)


@pytest.mark.parametrize("kind", KINDS)
def test_kind_alone_is_a_fault(kind: str) -> None:
    """Everything else has a default, and the text form round-trips."""
    fault = parse(kind)

    assert fault.kind == kind
    assert str(fault) == kind


def test_settings_of_a_fault_are_read() -> None:
    """Numbers are converted, and only what differs from the defaults is written."""
    fault = parse("refuse  for_s=1.5 after=2")

    assert (fault.for_s, fault.after) == (1.5, 2)
    assert str(fault) == "refuse for_s=1.5"
    assert parse(str(fault)) == fault


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is unknown; use one of refuse, hang_head"),
        ("explode", "'explode' is unknown"),
        ("cut 3", "'3' is not NAME=VALUE; NAME is one of after, status"),
        ("cut after=", "'after=' is not NAME=VALUE"),
        ("cut kind=refuse", "'kind=refuse' is not NAME=VALUE"),
        ("cut after=-1", "`int` >= 0 - at `$.after`"),
        ("status status=200", "`int` >= 400 - at `$.status`"),
        ("status status=x", "$.status"),
        ("huge_event size_bytes=99999999999", "$.size_bytes"),
    ],
)
def test_wrong_fault_names_field_and_remedy(text: str, words: str) -> None:
    """Nothing wrong is taken for another fault."""
    with pytest.raises(FaultError) as caught:
        parse(text)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    "rule",
    [
        b'{"fault":{"kind":"cut"},"share":0}',
        b'{"fault":{"kind":"cut"},"share":1.1}',
        b'{"fault":{"kind":"cut","aftr":1}}',
        b'{"fault":{"kind":"cut"},"deploment":"main"}',
    ],
)
def test_wrong_rule_is_refused(rule: bytes) -> None:
    """A misspelt member would make a rule that applies to everything."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(rule, type=Rule)


def test_rule_applies_to_its_deployment_and_model() -> None:
    """None stands for all."""
    cut = Fault("cut")
    plan = FaultPlan([Rule(cut, deployment="main", model="m")])

    assert plan.choose("main", "m") == cut
    assert plan.choose("spare", "m") is None
    assert plan.choose("main", "other") is None


def test_rule_ends_after_its_times() -> None:
    """The next rule then applies."""
    plan = FaultPlan([Rule(Fault("cut"), times=2), Rule(Fault("refuse"))])

    kinds = [fault.kind for _ in range(3) if (fault := plan.choose("main", "m"))]

    assert kinds == ["cut", "cut", "refuse"]


def test_each_rule_gets_its_own_share() -> None:
    """Of many requests, as many as were specified, within chance; the spare one gets none."""
    plan = FaultPlan(random_rules(), random.Random(1))
    count = 20_000

    chosen = [plan.choose("main", "m") for _ in range(count)]

    for kind, share in RANDOM_SHARES.items():
        found = sum(fault is not None and fault.kind == kind for fault in chosen)
        assert abs(found - share * count) < 5 * (share * count) ** 0.5
    assert {plan.choose("spare", "m") for _ in range(100)} == {None}
    assert set(RANDOM_SHARES) == set(KINDS)
