"""What clients may ask of routing, and the errors that say what they may."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.model import Deployment
from gateway.core.routing.preferences import Preferences, nothing_left, read_preferences
from gateway.errors import ErrorKind, GatewayError
from tests.support.pipeline_fakes import a_deployment, a_provider


def tagged(name: str, *tags: str) -> Deployment:
    return msgspec.structs.replace(a_deployment(a_provider(name)), tags=frozenset(tags))


DEPLOYMENTS = [tagged("fast", "us"), tagged("cheap", "eu", "spot"), tagged("old")]


def read(values: dict[bytes, bytes], *, allowed: bool = True) -> Preferences:
    return read_preferences(values, DEPLOYMENTS, allowed=allowed)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"cost", Preferences(policy="cheapest")),
        (b"latency", Preferences(policy="latency")),
        (b" old ", Preferences(first="old")),
        (b"eu", Preferences(first="eu")),
        (b"", Preferences()),
    ],
)
def test_prefer_is_a_policy_a_provider_or_a_tag(value: bytes, expected: Preferences) -> None:
    """`cost` and `latency` replace the model's policy; a provider or a region comes first."""
    assert read({b"x-capio-prefer": value}) == expected


def test_only_and_exclude_take_providers_and_tags() -> None:
    """A deployment needs one of the names in `only`, and none of those in `exclude`."""
    wishes = read({b"x-capio-only": b"us, eu", b"x-capio-exclude": b"spot"})

    assert [wishes.permits(each) for each in DEPLOYMENTS] == [True, False, False]
    assert [Preferences().permits(each) for each in DEPLOYMENTS] == [True] * 3
    only = Preferences(only=frozenset({"old"}))
    assert [only.permits(each) for each in DEPLOYMENTS] == [False, False, True]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {b"x-capio-prefer": b"quality"},
            "x-capio-prefer 'quality' is unknown: use one of cost, latency, fast, cheap, old, "
            "us, eu, spot.",
        ),
        (
            {b"x-capio-exclude": b"eu,nowhere"},
            "x-capio-exclude 'nowhere' is neither a provider nor a tag: "
            "use fast, cheap, old, us, eu, spot.",
        ),
        (
            {b"x-capio-only": b"a," * 17},
            "x-capio-only is too long: give at most 16 names.",
        ),
        (
            {b"x-capio-only": b"a" * 1025},
            "x-capio-only is too long: give at most 16 names.",
        ),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(
    values: dict[bytes, bytes], message: str
) -> None:
    """400 with the header and the remedy."""
    with pytest.raises(GatewayError) as raised:
        read(values)

    assert raised.value.kind is ErrorKind.BAD_REQUEST
    assert raised.value.message == message
    assert raised.value.param == next(iter(values)).decode()


def test_operator_may_refuse_preferences() -> None:
    """Then they are not silently ignored: the client would rely on them."""
    with pytest.raises(GatewayError) as raised:
        read({b"x-capio-only": b"fast"}, allowed=False)

    assert raised.value.message == "x-capio-only is not enabled on this service: remove it."


@pytest.mark.parametrize(
    ("only", "exclude", "message"),
    [
        ("a", "", "x-capio-only leaves no deployment of the model 'm': relax it."),
        ("", "a", "x-capio-exclude leaves no deployment of the model 'm': relax it."),
        (
            *("a", "a"),
            "x-capio-only and x-capio-exclude together leave no deployment of the model 'm':"
            " relax one of them.",
        ),
    ],
)
def test_preferences_that_leave_nothing_name_the_headers(
    only: str, exclude: str, message: str
) -> None:
    """400, since a retry would fail in the same way."""
    preferences = Preferences(only=frozenset(only), exclude=frozenset(exclude))

    error = nothing_left("m", preferences)

    assert error.kind is ErrorKind.BAD_REQUEST
    assert error.message == message
