"""The model list in both shapes."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.calendar import rfc3339
from gateway.core.model import Model, Prices, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.http.model_list import list_models, show_model

FREE = Prices(0, 0, 0, 0, 0)


def model(name: str, prices: Prices = FREE) -> Model:
    """Return a model."""
    return Model(
        name=name,
        aliases=(),
        display_name=name.upper(),
        created=1_770_000_000,
        context=200_000,
        max_output=8_192,
        prices=prices,
        deployments=(),
    )


FIVE = [model(name) for name in "abcde"]


def page(**query: str) -> tuple[str, bool, str | None, str | None]:
    """Return names, has_more, first and last id of a page of five models."""
    body = json.loads(list_models(FIVE, Wire.ANTHROPIC, query))
    names = "".join(entry["id"] for entry in body["data"])
    return names, body["has_more"], body["first_id"], body["last_id"]


def test_openai_list_names_prices_in_dollars_per_token() -> None:
    """Priced models carry context and decimal strings without exponents; others do not."""
    prices = Prices(140_000_000, 1_500_000_000_000, 14_000_000, 0, 1)
    body = json.loads(list_models([model("m", prices), model("n")], Wire.OPENAI, {}))

    assert body == {
        "object": "list",
        "data": [
            {
                "id": "m",
                "object": "model",
                "created": 1_770_000_000,
                "owned_by": "gateway",
                "context_length": 200_000,
                "pricing": {
                    "prompt": "0.00000014",
                    "completion": "0.0015",
                    "input_cache_read": "0.000000014",
                    "input_cache_write": "0",
                    "internal_reasoning": "0.000000000000001",
                },
            },
            {"id": "n", "object": "model", "created": 1_770_000_000, "owned_by": "gateway"},
        ],
    }


def test_openai_list_names_the_price_of_one_search() -> None:
    """Ten dollars a thousand are a cent each, as OpenRouter's clients read it."""
    prices = Prices(140_000_000, 0, 0, 0, 0, web_search=10_000_000_000)

    shown = json.loads(show_model(model("m", prices), Wire.OPENAI, "m"))["pricing"]

    assert shown["web_search"] == "0.01"


@given(st.integers(0, 10**18))
def test_openai_list_any_price_is_exact(nanousd: int) -> None:
    """The decimal string holds the price to the last digit."""
    prices = Prices(nanousd, 1, 0, 0, 0)
    shown = json.loads(show_model(model("m", prices), Wire.OPENAI, "m"))["pricing"]["prompt"]
    whole, _, fraction = shown.partition(".")

    assert int(whole + fraction.ljust(15, "0")) == nanousd
    assert not fraction.endswith("0")


def test_anthropic_list_pages_forwards_and_backwards() -> None:
    """`limit`, `after_id` and `before_id` walk the list; `has_more` looks in their direction."""
    assert page() == ("abcde", False, "a", "e")
    assert page(limit="2", beta="true") == ("ab", True, "a", "b")
    assert page(limit="2", after_id="b") == ("cd", True, "c", "d")
    assert page(limit="2", after_id="d") == ("e", False, "e", "e")
    assert page(after_id="e") == ("", False, None, None)
    assert page(limit="2", before_id="d") == ("bc", True, "b", "c")
    assert page(limit="2", before_id="c") == ("ab", False, "a", "b")
    assert json.loads(list_models([], Wire.ANTHROPIC, {})) == {
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


@pytest.mark.parametrize("query", [{}, {"limit": "1000"}])
def test_anthropic_list_page_has_at_most_a_thousand_models(query: dict[str, str]) -> None:
    """A page has 1000 models by default, which is also the highest limit."""
    models = [model(f"m{number}") for number in range(1001)]

    shown = json.loads(list_models(models, Wire.ANTHROPIC, query))

    assert (len(shown["data"]), shown["has_more"]) == (1000, True)
    assert shown["last_id"] == "m999"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"limit": "1" * 5000}, "limit"),
        ({"after_id": "x"}, "after_id"),
        ({"before_id": "x"}, "before_id"),
        ({"after_id": "a", "before_id": "b"}, "before_id"),
    ],
)
def test_anthropic_list_bad_query_is_refused(query: dict[str, str], param: str) -> None:
    """What cannot be a page is a 400 that names the parameter."""
    with pytest.raises(GatewayError) as caught:
        list_models(FIVE, Wire.ANTHROPIC, query)
    assert (caught.value.kind, caught.value.param) == (ErrorKind.BAD_REQUEST, param)


def test_one_model_is_shown_under_the_name_asked_for() -> None:
    """An alias or a prefixed name is returned as requested."""
    assert json.loads(show_model(model("m"), Wire.OPENAI, "capio/m"))["id"] == "capio/m"
    assert json.loads(show_model(model("m"), Wire.ANTHROPIC, "capio/m")) == {
        "type": "model",
        "id": "capio/m",
        "display_name": "M",
        "created_at": "2026-02-02T02:40:00Z",
        "lifecycle": "active",
        "max_input_tokens": 200_000,
        "max_tokens": 8_192,
    }


@given(st.integers(0, 253_402_300_799))
def test_rfc3339_any_second_agrees_with_the_standard_library(unix_s: int) -> None:
    """The calendar is right up to the year 9999."""
    expected = datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert rfc3339(unix_s) == expected.rjust(20, "0")
