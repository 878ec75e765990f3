"""`capio accounts`: who pays."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.amounts import Dollars, who
from gateway.cli.config import config_option, load_config
from gateway.cli.output import MISUSE, Row, fail, json_option, print_rows
from gateway.cli.refresh import refresh_account
from gateway.cli.stores import every, find_account, with_database
from gateway.cli.times import optional_time
from gateway.core.money import MAX_BALANCE_NANOUSD, amount_fields, dollars
from gateway.store.accounts.accounts import Account, Accounts, Billing, Terms
from gateway.store.sql.database import Database

_TRUSTED = "Do not bound what its running calls can cost by its credit."


@click.group()
def accounts() -> None:
    """Who pays for the calls of a set of keys."""


@accounts.command("create")
@click.argument("name")
@click.option("--postpaid", is_flag=True, help="It may owe; without this it spends its balance.")
@click.option("--credit-limit", type=Dollars(), help="How much it may owe; else without end.")
@click.option("--trusted", is_flag=True, help=_TRUSTED)
@config_option
@json_option
def create_account(
    *,
    name: str,
    postpaid: bool,
    credit_limit: int | None,
    trusted: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Make an account. A prepaid one needs money before it can pay: capio credits topup."""
    settings = load_config(config_path)
    terms = _terms(postpaid, credit_limit)

    async def work(database: Database) -> Account:
        return await Accounts(database).create(name, terms, trusted=trusted, by=who())

    print_rows([_row(with_database(settings, work))], as_json)


@accounts.command("billing")
@click.argument("account")
@click.option("--postpaid/--prepaid", required=True, help="Whether it may owe.")
@click.option("--credit-limit", type=Dollars(), help="How much it may owe; else without end.")
@config_option
@json_option
def change_billing(
    *,
    account: str,
    postpaid: bool,
    credit_limit: int | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Change how an account pays."""
    settings = load_config(config_path)
    terms = _terms(postpaid, credit_limit)

    async def work(database: Database) -> Account:
        owner = await find_account(database, account)
        return await Accounts(database).change(owner.id, who(), terms=terms)

    changed = with_database(settings, work)
    print_rows([_row(changed)], as_json)
    refresh_account(settings, changed.id)


@accounts.command("set")
@click.argument("account")
@click.option("--trusted/--untrusted", required=True, help=_TRUSTED)
@config_option
@json_option
def change_trust(*, account: str, trusted: bool, config_path: Path | None, as_json: bool) -> None:
    """Change whether an account is trusted."""
    settings = load_config(config_path)

    async def work(database: Database) -> Account:
        owner = await find_account(database, account)
        return await Accounts(database).change(owner.id, who(), trusted=trusted)

    changed = with_database(settings, work)
    print_rows([_row(changed)], as_json)
    refresh_account(settings, changed.id)


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
    return {
        "id": account.id,
        "name": account.name,
        "billing": account.terms.billing.value,
        **amount_fields("balance", account.balance_nanousd),
        **amount_fields("credit_limit", account.terms.credit_nanousd),
        "trusted": account.trusted,
        "created_at": optional_time(account.created_at),
    }


def _terms(postpaid: bool, credit_limit: int | None) -> Terms:
    if not postpaid and credit_limit is not None:
        fail(["--credit-limit: goes with --postpaid only"], MISUSE)
    if credit_limit is not None and not 0 <= credit_limit <= MAX_BALANCE_NANOUSD:
        fail([f"--credit-limit: must be from 0 to {dollars(MAX_BALANCE_NANOUSD)}"], MISUSE)
    return Terms(Billing.POSTPAID if postpaid else Billing.PREPAID, credit_limit)
