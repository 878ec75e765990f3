"""`capio accounts`: who pays."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.config import config_option, load_config
from gateway.cli.output import Row, json_option, print_rows
from gateway.cli.stores import every, with_database
from gateway.cli.times import iso_time
from gateway.store.accounts import Account, Accounts
from gateway.store.sql import Database


@click.group()
def accounts() -> None:
    """Who pays for the calls of a set of keys."""


@accounts.command("create")
@click.argument("name")
@config_option
@json_option
def create_account(name: str, config_path: Path | None, as_json: bool) -> None:
    """Make an account."""
    settings = load_config(config_path)

    async def work(database: Database) -> Account:
        return await Accounts(database).create(name)

    print_rows([_row(with_database(settings, work))], as_json)


@accounts.command("list")
@config_option
@json_option
def list_accounts(config_path: Path | None, as_json: bool) -> None:
    """List the accounts, the oldest first."""
    settings = load_config(config_path)

    async def work(database: Database) -> list[Account]:
        return await every(lambda last: Accounts(database).list(after=last))

    rows = [_row(account) for account in with_database(settings, work)]
    print_rows(rows, as_json, empty="There are no accounts yet: capio accounts create NAME")


def _row(account: Account) -> Row:
    return {"id": account.id, "name": account.name, "created_at": iso_time(account.created_at)}
