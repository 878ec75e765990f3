"""`capio limits`: how fast and for how much an account or a key may call."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from gateway.cli.amounts import who
from gateway.cli.config import config_option, load_config
from gateway.cli.keys import public_names, tell_change
from gateway.cli.output import MISUSE, Row, fail, json_option, print_rows
from gateway.cli.refresh import refresh_account
from gateway.cli.stores import find_account, with_database
from gateway.core.limits import NO_LIMITS, KeyLimits, Limits
from gateway.core.money import amount_fields, read_dollars
from gateway.settings import Settings
from gateway.store.accounts.accounts import Account, Accounts
from gateway.store.keys.repository import KeyChange, KeyRow, Keys
from gateway.store.sql.database import Database

_NONE = "none"
_COUNTS = ("rpm", "tpm", "concurrency")
_BUDGETS = ("budget_day", "budget_month", "budget_total")

account_option = click.option("--account", help="The account's id, or its name.")
key_option = click.option("--key", "key_id", help="The key's id.")


class _Limit(click.ParamType[str]):
    """A number, an amount in dollars, or `none`."""

    name = "limit|none"

    def __init__(self, *, is_money: bool) -> None:
        self._is_money = is_money

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the limit's number as text, or `none`."""
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
    """How fast and for how much an account or a key may call."""


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
    _one_of(account, key_id)
    if account is not None:
        wanted = account
        owner = with_database(settings, lambda database: find_account(database, wanted))
        rows = [_row(owner.id, owner.limits)]
    else:
        assert key_id is not None
        rows = _key_rows(_find_key(settings, key_id))
    print_rows(rows, as_json)


@limits.command("set")
@account_option
@key_option
@click.option("--model", help="Only for the key's calls of this model.")
@click.option("--rpm", type=_Limit(is_money=False), help="Requests a minute.")
@click.option("--tpm", type=_Limit(is_money=False), help="Tokens a minute.")
@click.option("--concurrency", type=_Limit(is_money=False), help="Calls at the same time.")
@click.option("--budget-day", type=_Limit(is_money=True), help="Dollars in a UTC day.")
@click.option("--budget-month", type=_Limit(is_money=True), help="Dollars in a UTC month.")
@click.option("--budget-total", type=_Limit(is_money=True), help="Dollars in all.")
@config_option
@json_option
def set_limits(
    *,
    account: str | None,
    key_id: str | None,
    model: str | None,
    config_path: Path | None,
    as_json: bool,
    **asked: str | None,
) -> None:
    """Change the limits that are given, `none` taking one away; the others stay."""
    settings = load_config(config_path)
    _one_of(account, key_id)
    changes = _changes(asked)
    if key_id is not None:
        name = None if model is None else public_names(settings, (model,), "--model")[0]
        print_rows(_key_rows(_change_key(settings, key_id, name, changes)), as_json)
        return
    if model is not None:
        fail(["--model: goes with --key only"], MISUSE)
    assert account is not None
    changed = _change_account(settings, account, changes)
    print_rows([_row(changed.id, changed.limits)], as_json)
    refresh_account(settings, changed.id)


def _change_account(settings: Settings, account: str, changes: dict[str, int | None]) -> Account:
    async def work(database: Database) -> Account:
        owner = await find_account(database, account)
        limits = _checked(owner.limits, changes)
        return await Accounts(database).change(owner.id, who(), limits=limits)

    return with_database(settings, work)


def _change_key(
    settings: Settings, key_id: str, model: str | None, changes: dict[str, int | None]
) -> KeyRow:
    async def work(database: Database) -> tuple[KeyChange, KeyRow]:
        keys = Keys(database, settings.brand.key_prefix)
        old = (await keys.get(key_id)).limits or KeyLimits()
        if model is None:
            new = msgspec.structs.replace(old, **_plain(_checked(_own(old), changes)))
        else:
            models = {**old.models, model: _checked(old.models.get(model, NO_LIMITS), changes)}
            models = {name: limits for name, limits in models.items() if limits != NO_LIMITS}
            new = msgspec.structs.replace(old, models=models)
        change = await keys.set_limits(key_id, None if new == KeyLimits() else new, by=who())
        return change, await keys.get(key_id)

    change, row = with_database(settings, work)
    tell_change(settings, change, "changed")
    return row


def _find_key(settings: Settings, key_id: str) -> KeyRow:
    async def work(database: Database) -> KeyRow:
        return await Keys(database, settings.brand.key_prefix).get(key_id)

    return with_database(settings, work)


def _changes(asked: dict[str, str | None]) -> dict[str, int | None]:
    """Return the fields to change: names of `Limits` to numbers, None to take a limit away."""
    changes: dict[str, int | None] = {}
    for option, text in asked.items():
        if text is not None:
            name = f"{option}_nanousd" if option in _BUDGETS else option
            changes[name] = None if text == _NONE else int(text)
    if not changes:
        fail(["Nothing to change: give at least one limit, for example --rpm 60."], MISUSE)
    return changes


def _checked(limits: Limits, changes: dict[str, int | None]) -> Limits:
    changed = {**_plain(limits), **changes}
    try:
        return msgspec.convert(changed, Limits)
    except msgspec.ValidationError as failure:
        fail([f"This limit is out of its range: {failure}"], MISUSE)


def _own(limits: KeyLimits) -> Limits:
    return Limits(**_plain(limits))


def _plain(limits: Limits) -> dict[str, int | None]:
    return {name: getattr(limits, name) for name in Limits.__struct_fields__}


def _one_of(account: str | None, key_id: str | None) -> None:
    if (account is None) == (key_id is None):
        fail(["Give either --account or --key."], MISUSE)


def _key_rows(row: KeyRow) -> list[Row]:
    limits = row.limits or KeyLimits()
    for_models = [_row(f"{row.id} {name}", each) for name, each in sorted(limits.models.items())]
    return [_row(row.id, limits), *for_models]


def _row(name: str, limits: Limits) -> Row:
    row: dict[str, object] = {"of": name}
    for field in _COUNTS:
        row[field] = getattr(limits, field)
    for field in _BUDGETS:
        row.update(amount_fields(field, getattr(limits, f"{field}_nanousd")))
    return row
