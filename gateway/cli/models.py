"""`capio models`: the catalogue as callers see it."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.config import config_option, load_config
from gateway.cli.output import Row, json_option, print_rows
from gateway.core.catalogue import build
from gateway.core.model import Model
from gateway.core.money import dollars


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
