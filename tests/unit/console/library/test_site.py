"""What pages say about a service."""

from __future__ import annotations

import pytest

from gateway.console.library.site import (
    ListedModel,
    ModelPrices,
    Site,
    count_words,
    find_model,
    site_of,
)
from gateway.console.web.words import money
from gateway.settings import Settings
from tests.support.pages import demo_library, other_settings


def test_models_are_listed_with_exact_prices() -> None:
    """Dollars with as many decimals as needed; a model without prices is free."""
    nimbus, cirrus = site_of(other_settings()).models

    assert nimbus.prices == ModelPrices("$0.50", "$1,234.50", "$0.50", "$0.50", None)
    assert (nimbus.context_words, nimbus.output_words, nimbus.aliases) == (
        "262K",
        "98K",
        ("nimbus",),
    )
    assert cirrus.prices is None
    assert (cirrus.context_words, cirrus.output_words) == ("1.05M", "800")
    assert nimbus.wires == ("openai",)


def test_names_are_made_of_the_brand() -> None:
    """They are identifiers in clients' configurations and shells."""
    site = site_of(other_settings())

    assert (site.slug, site.key_variable, site.base_url) == (
        "acme-ai", "ACME_AI_API_KEY", "https://ai.test",
    )  # fmt: skip


def test_tiers_of_the_demo_are_those_of_its_prices() -> None:
    """The cheapest is small, the one called opus is large, the dearest other one is between."""
    assert demo_library().site.tiers() == ("deepseek-v4-flash", "MiniMax-M3", "claude-opus-4-8")


@pytest.mark.parametrize(
    ("names", "tiers"),
    [
        ([], ("deepseek-v4-flash",) * 3),
        (["only"], ("only", "only", "only")),
        (["a", "b"], ("a", "a", "b")),
    ],
)
def test_tiers_of_a_small_catalogue_repeat_models(names: list[str], tiers: object) -> None:
    """Examples never name a model that does not exist, unless there is none."""
    models = tuple(
        ListedModel(
            name=name,
            title=name,
            aliases=(),
            context=1000,
            max_output=10,
            wires=("openai",),
            prices=ModelPrices("$1.00", f"${at}.00", "$1.00", "$1.00", None),
        )
        for at, name in enumerate(names, 1)
    )

    assert Site(settings=Settings(), models=models).tiers() == tiers


@pytest.mark.parametrize(
    ("tokens", "words"),
    [(800, "800"), (1000, "1K"), (262_144, "262K"), (1_000_000, "1M"), (1_048_576, "1.05M")],
)
def test_token_counts_are_short(tokens: int, words: str) -> None:
    assert count_words(tokens) == words


@pytest.mark.parametrize(
    ("nanousd", "shown"),
    [
        (70_000_000, "$0.07"),
        (0, "$0.00"),
        (1_234_500_000_000, "$1,234.50"),
        (12_345_678, "$0.012345678"),
    ],
)
def test_prices_have_as_many_decimals_as_needed(nanousd: int, shown: str) -> None:
    assert money(nanousd) == shown


def test_models_are_found_by_name_and_alias() -> None:
    models = site_of(other_settings()).models

    assert find_model(models, "nimbus") is models[0]
    assert find_model(models, "cirrus") is models[1]
    assert find_model(models, "nimbu") is None
