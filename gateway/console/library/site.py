"""The properties of this service that pages show: its name, address, models and prices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.console.web.words import money
from gateway.core.catalogue import build
from gateway.core.model import Model, Wire
from gateway.settings import Model as GivenModel
from gateway.settings import Settings

FALLBACK_MODEL = "deepseek-v4-flash"
"""Used in examples while the catalogue is empty."""
_THOUSAND = 1000


class ModelPrices(msgspec.Struct, frozen=True):
    """Dollars per million tokens as text."""

    input: str
    output: str
    cache_read: str
    cache_write: str
    reasoning: str | None
    """None: the price of output."""


class ListedModel(msgspec.Struct, frozen=True):
    """A model as pages list it."""

    name: str
    title: str
    aliases: tuple[str, ...]
    context: int
    max_output: int
    prices: ModelPrices | None
    """None: free."""
    prices_nanousd: tuple[int, int] = (0, 0)
    """Of input and output, for sorting."""
    description: str = ""
    tags: tuple[str, ...] = ()
    wires: tuple[str, ...] = ()
    """The APIs of its deployments, which are relayed; others are translated."""

    @property
    def context_words(self) -> str:
        """The context in short form: `1M`, `262K`."""
        return count_words(self.context)

    def nanousd(self, side: str) -> int:
        """Return the price of `input` or `output`."""
        return self.prices_nanousd[0 if side == "input" else 1]

    @property
    def output_words(self) -> str:
        return count_words(self.max_output)


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """The service whose pages are rendered."""

    settings: Settings
    models: tuple[ListedModel, ...]

    @property
    def base_url(self) -> str:
        return self.settings.brand.public_url.rstrip("/")

    @property
    def slug(self) -> str:
        """The brand as an identifier in configurations of clients: `capio`."""
        return re.sub(r"[^a-z0-9]+", "-", self.settings.brand.name.lower()).strip("-") or "gateway"

    @property
    def key_variable(self) -> str:
        """The environment variable of the key in examples: `CAPIO_API_KEY`."""
        return f"{self.slug.replace('-', '_').upper()}_API_KEY"

    def variables(self) -> dict[str, Any]:
        """Return the variables that documents may use."""
        brand = self.settings.brand
        small, medium, large = self.tiers()
        return {
            "base_url": self.base_url,
            "brand": brand.name,
            "slug": self.slug,
            "env": self.key_variable,
            "key_prefix": brand.key_prefix,
            "prefix": brand.model_prefix,
            "models": self.models,
            "example_model": self.example_model(),
            "small_model": small,
            "medium_model": medium,
            "large_model": large,
            "settings": self.settings,
        }

    def example_model(self) -> str:
        """Return the model used in examples: the first of the catalogue."""
        return self.models[0].name if self.models else FALLBACK_MODEL

    def tiers(self) -> tuple[str, str, str]:
        """Return models for Claude Code's small, medium and large tiers, by price and name."""
        if not self.models:
            return (FALLBACK_MODEL,) * 3
        ranked = sorted(self.models, key=_price_rank)
        priced = [each for each in ranked if each.prices is not None] or ranked
        named = [each.name for each in self.models if "opus" in each.name.lower()]
        large = named[0] if named else priced[-1].name
        others = [each.name for each in priced if each.name != large] or [large]
        return others[0], others[-1], large


def site_of(settings: Settings) -> Site:
    """Return the site of a service with these settings."""
    given = {each.name: each for each in settings.models}
    models = (listed(each, given[each.name]) for each in build(settings, {}).models)
    return Site(settings=settings, models=tuple(models))


def listed(model: Model, given: GivenModel) -> ListedModel:
    """Return a model as pages list it, with its title and description from the settings."""
    prices = model.prices
    shown = ModelPrices(
        input=money(prices.input),
        output=money(prices.output),
        cache_read=money(prices.cache_read),
        cache_write=money(prices.cache_write),
        reasoning=None if prices.reasoning == prices.output else money(prices.reasoning),
    )
    found = {wire for each in model.deployments for wire in each.wires}
    return ListedModel(
        name=model.name,
        title=model.display_name or model.name,
        aliases=model.aliases,
        context=model.context,
        max_output=model.max_output,
        prices=None if prices.are_zero else shown,
        prices_nanousd=(prices.input, prices.output),
        description=given.description or "",
        tags=tuple(given.tags),
        wires=tuple(wire.value for wire in Wire if wire in found),
    )


def count_words(tokens: int) -> str:
    """Return a number of tokens as `1M`, `1.05M`, `262K` or `800`."""
    for size, unit in ((_THOUSAND**2, "M"), (_THOUSAND, "K")):
        if tokens >= size:
            digits = 2 if unit == "M" else 0
            return (
                f"{tokens / size:.{digits}f}".rstrip("0").rstrip(".") + unit
                if digits
                else (f"{tokens // size}{unit}")
            )
    return str(tokens)


def _price_rank(model: ListedModel) -> int:
    return model.nanousd("output")


def find_model(models: Sequence[ListedModel], name: str) -> ListedModel | None:
    """Return the model with this name or alias."""
    return next((each for each in models if name == each.name or name in each.aliases), None)
