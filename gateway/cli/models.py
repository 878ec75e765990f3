"""`capio models`: the catalogue as callers see it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import click

from gateway.cli.config import config_option, load_config
from gateway.cli.output import Row, json_option, print_rows
from gateway.core.catalogue import NANOUSD_PER_USD, build
from gateway.core.model import Model


@click.group()
def models() -> None:
    """What callers may ask for."""


@models.command("list")
@config_option
@json_option
def list_models(config_path: Path | None, as_json: bool) -> None:
    """List the models with prices in dollars per million tokens and the ways to reach them."""
    catalogue = build(load_config(config_path), {})
    print_rows([model_row(model) for model in catalogue.models], as_json)


def model_row(model: Model) -> Row:
    """Return a model as a line of the list."""
    prices = model.prices
    return {
        "name": model.name,
        "aliases": model.aliases,
        "context": model.context,
        "max_output": model.max_output,
        "input": dollars(prices.input),
        "output": dollars(prices.output),
        "cache_read": dollars(prices.cache_read),
        "cache_write": dollars(prices.cache_write),
        "reasoning": dollars(prices.reasoning),
        "deployments": [
            f"{each.label} ({' '.join(wire.value for wire in each.wires)})"
            for each in model.deployments
        ],
    }


def dollars(nanousd: int) -> str:
    """Return nano-dollars as dollars, exactly, with cents at least."""
    amount = Decimal(nanousd) / NANOUSD_PER_USD
    text = f"{amount.normalize():f}"
    return text if len(text.partition(".")[2]) > 1 else f"{amount:.2f}"
