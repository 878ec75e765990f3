"""`capio config`: the effective settings, and where each came from."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gateway.cli.config import config_option, find_config, refuse_config
from gateway.cli.formats import OutputRow, json_option, print_json, print_rows
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import ConfigError, load_sources
from gateway.settings.sources.effective import EffectiveSetting, effective_settings


@click.command()
@click.option("--changed", is_flag=True, help="Only what the file or the environment sets.")
@config_option
@json_option
def config(config_path: Path | None, as_json: bool, changed: bool) -> None:
    """
    Print every setting with its value and its source: default, file or environment.

    The environment wins over the file. Credentials are not printed, and neither are users in URLs
    and values of headers.
    """
    path = find_config(config_path)
    try:
        loaded = load_sources(path, capabilities, os.environ)
    except ConfigError as error:
        refuse_config(path, error.errors)
    found = [
        each
        for each in effective_settings(loaded.settings, loaded.raw, loaded.variables)
        if not (changed and each.source == "default")
    ]
    if as_json:
        print_json(found)
    else:
        print_rows([_row(each) for each in found], as_json=False)


def _row(setting: EffectiveSetting) -> OutputRow:
    source: str = setting.source
    if setting.variable is not None:
        source = f"environment {setting.variable}"
    return {"setting": setting.path, "value": setting.value, "source": source}
