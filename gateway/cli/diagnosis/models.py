"""`capio models`: the models that clients can use."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.config import config_option, load_config
from gateway.cli.diagnosis.catalogue import served_settings
from gateway.cli.formats import OutputRow, json_option, print_rows
from gateway.core.catalogue import build
from gateway.core.model import Model
from gateway.core.money import dollars


@click.group()
def models() -> None:
    """Show the models that clients can use."""


@models.command("list")
@config_option
@json_option
def list_models(config_path: Path | None, as_json: bool) -> None:
    """List models with their deployments and prices in dollars per million tokens."""
    catalogue = build(served_settings(load_config(config_path)), {})
    print_rows([_model_row(model) for model in catalogue.models], as_json)


def _model_row(model: Model) -> OutputRow:
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
