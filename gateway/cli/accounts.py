"""`capio accounts`: creates, changes and lists accounts."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.config import config_option, load_config
from gateway.cli.database import Operations, actor, every, run
from gateway.cli.formats import Dollars, OutputRow, json_option, print_record, print_rows
from gateway.operations.accounts import read_terms
from gateway.operations.objects import account_object, pick
from gateway.store.accounts.accounts import Account, Billing, Terms

_TRUSTED = "Do not limit the cost of running calls to the account's credit."
_CREDIT_LIMIT = "How much a postpaid account may owe.  [default: unlimited]"
_COLUMNS = (
    "id", "name", "billing", "balance", "balance_nanousd", "credit_limit", "credit_limit_nanousd",
    "trusted", "created_at",
)  # fmt: skip


@click.group()
def accounts() -> None:
    """Manage accounts, which pay for the calls of their keys."""


@accounts.command("create")
@click.argument("name")
@click.option("--postpaid", is_flag=True, help="Allow a negative balance.")
@click.option("--credit-limit", type=Dollars(), help=_CREDIT_LIMIT)
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
    """
    Create an account.

    A prepaid account, the default, needs a balance first: capio credits topup.
    """
    settings = load_config(config_path)
    terms = _terms(postpaid, credit_limit)

    async def work(operations: Operations) -> Account:
        return await operations.accounts.create(name, terms, actor(), trusted=trusted)

    print_record(_row(run(settings, work)), as_json)


@accounts.command("billing")
@click.argument("account")
@click.option("--postpaid/--prepaid", required=True, help="Whether the balance may be negative.")
@click.option("--credit-limit", type=Dollars(), help=_CREDIT_LIMIT)
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
    """Change the billing of an account."""
    settings = load_config(config_path)
    terms = _terms(postpaid, credit_limit)

    async def work(operations: Operations) -> Account:
        owner = await operations.accounts.find(account)
        return await operations.accounts.change(owner.id, actor(), terms=terms)

    print_record(_row(run(settings, work)), as_json)


@accounts.command("set")
@click.argument("account")
@click.option("--trusted/--untrusted", required=True, help=_TRUSTED)
@config_option
@json_option
def change_trust(*, account: str, trusted: bool, config_path: Path | None, as_json: bool) -> None:
    """Change whether an account is trusted."""
    settings = load_config(config_path)

    async def work(operations: Operations) -> Account:
        owner = await operations.accounts.find(account)
        return await operations.accounts.change(owner.id, actor(), trusted=trusted)

    print_record(_row(run(settings, work)), as_json)


@accounts.command("list")
@config_option
@json_option
def list_accounts(config_path: Path | None, as_json: bool) -> None:
    """List accounts, oldest first."""
    settings = load_config(config_path)

    async def work(operations: Operations) -> list[Account]:
        return await every(lambda last: operations.accounts.list(after=last))

    rows = [_row(account) for account in run(settings, work)]
    print_rows(rows, as_json, empty="No accounts found. Create one: capio accounts create NAME")


def _row(account: Account) -> OutputRow:
    return pick(account_object(account), _COLUMNS)


def _terms(postpaid: bool, credit_limit: int | None) -> Terms | None:
    return read_terms(Billing.POSTPAID if postpaid else Billing.PREPAID, credit_limit)
