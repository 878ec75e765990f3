"""`capio limits`: shows and changes limits of accounts and keys."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.config import config_option, load_config
from gateway.cli.database import Operations, actor, run
from gateway.cli.diagnosis.catalogue import served_settings
from gateway.cli.formats import OutputRow, json_option, print_rows
from gateway.core.catalogue import build
from gateway.core.limits import KeyLimits, Limits
from gateway.core.money import read_dollars
from gateway.operations.keys import public_name
from gateway.operations.limits import merge_limits
from gateway.operations.objects import BUDGETS, limits_object
from gateway.store.keys.repository import KeyRow

_NONE = "none"

account_option = click.option("--account", help="The account's id or name.")
key_option = click.option("--key", "key_id", help="The key's id.")


class _Limit(click.ParamType[str]):
    """A number, an amount in dollars, or `none`."""

    name = "limit|none"

    def __init__(self, *, is_money: bool) -> None:
        self._is_money = is_money

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the limit as digits, or `none`."""
        text = str(value)
        if text == _NONE:
            return text
        try:
            return str(read_dollars(text) if self._is_money else int(text))
        except ValueError:
            kind = "an amount in dollars" if self._is_money else "a whole number"
            self.fail(f"{text!r} is neither {kind} nor {_NONE}", param, ctx)


@click.group()
def limits() -> None:
    """Manage rate limits and budgets of accounts and keys."""


@limits.command("show")
@account_option
@key_option
@config_option
@json_option
def show_limits(
    account: str | None, key_id: str | None, config_path: Path | None, as_json: bool
) -> None:
    """Show the limits of an account, or of a key and its models."""
    settings = load_config(config_path)
    _check_target(account, key_id)

    async def work(operations: Operations) -> list[OutputRow]:
        if key_id is not None:
            return _key_rows(await operations.keys.get(key_id))
        owner = await operations.accounts.find(account or "")
        return [_row(owner.id, owner.limits)]

    print_rows(run(settings, work), as_json)


@limits.command("set")
@account_option
@key_option
@click.option("--model", help="Limit only the key's calls of this model.")
@click.option("--rpm", type=_Limit(is_money=False), help="Requests per minute.")
@click.option("--tpm", type=_Limit(is_money=False), help="Tokens per minute.")
@click.option("--concurrency", type=_Limit(is_money=False), help="Concurrent calls.")
@click.option("--budget-day", type=_Limit(is_money=True), help="Dollars per UTC day.")
@click.option("--budget-month", type=_Limit(is_money=True), help="Dollars per UTC month.")
@click.option("--budget-total", type=_Limit(is_money=True), help="Dollars in total.")
@config_option
@json_option
def set_limits(
    *,
    account: str | None,
    key_id: str | None,
    model: str | None,
    config_path: Path | None,
    as_json: bool,
    **values: str | None,
) -> None:
    """Change the given limits and keep the others; `none` removes a limit."""
    settings = load_config(config_path)
    _check_target(account, key_id)
    if model is not None and key_id is None:
        raise click.UsageError("--model requires --key.")
    changes = _changes(values)
    name = (
        None if model is None else public_name(build(served_settings(settings), {}), model, "model")
    )

    async def work(operations: Operations) -> list[OutputRow]:
        if key_id is not None:
            changed = await operations.keys.change_limits(key_id, changes, name, actor())
            return _key_rows(changed.row)
        owner = await operations.accounts.find(account or "")
        merged = merge_limits(owner.limits, changes)
        owner = await operations.accounts.change(owner.id, actor(), limits=merged)
        return [_row(owner.id, owner.limits)]

    print_rows(run(settings, work), as_json)


def _changes(values: dict[str, str | None]) -> dict[str, int | None]:
    """Return the fields of `Limits` to change; None removes a limit."""
    changes: dict[str, int | None] = {}
    for option, text in values.items():
        if text is not None:
            name = f"{option}_nanousd" if option in BUDGETS else option
            changes[name] = None if text == _NONE else int(text)
    if not changes:
        raise click.UsageError("Nothing to change: specify at least one limit, such as --rpm 60.")
    return changes


def _check_target(account: str | None, key_id: str | None) -> None:
    if (account is None) == (key_id is None):
        raise click.UsageError("Specify either --account or --key.")


def _key_rows(row: KeyRow) -> list[OutputRow]:
    limits = row.limits or KeyLimits()
    for_models = [_row(f"{row.id} {name}", each) for name, each in sorted(limits.models.items())]
    return [_row(row.id, limits), *for_models]


def _row(name: str, limits: Limits) -> OutputRow:
    shown = limits_object(limits)
    shown.pop("models", None)
    return {"of": name, **shown}
