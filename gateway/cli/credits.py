"""`capio credits`: what accounts may spend, and every movement of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from gateway.cli.amounts import Dollars, who
from gateway.cli.config import config_option, load_config
from gateway.cli.output import Form, Row, form_options, json_option, print_form, print_rows
from gateway.cli.refresh import refresh_account
from gateway.cli.stores import find_account, with_database
from gateway.cli.times import optional_time
from gateway.core.money import amount_fields
from gateway.settings import Settings
from gateway.store.accounts.accounts import Account
from gateway.store.accounts.credits import Booked, Credits, LedgerEntry
from gateway.store.sql.database import Database

account_option = click.option("--account", required=True, help="Id of the account, or its name.")
amount_option = click.option(
    "--amount", type=Dollars(), required=True, help="Dollars, exact: 12.50 or 0.000000001."
)
reason_option = click.option("--reason", required=True, help="Why; kept in the ledger for ever.")
once_option = click.option(
    "--once", metavar="KEY", help="Of all bookings with the same key only the first is made."
)


@click.group("credits")
def credit() -> None:
    """What accounts may spend, and every movement of it."""


@credit.command("show")
@account_option
@click.option("--entries", default=20, show_default=True, help="How many movements to show.")
@config_option
@form_options
def show_credits(*, account: str, entries: int, config_path: Path | None, form: Form) -> None:
    """Show an account's balance and its last movements, the newest first."""
    settings = load_config(config_path)

    async def work(database: Database) -> tuple[Account, list[LedgerEntry]]:
        owner = await find_account(database, account)
        return owner, list(await Credits(database).entries(owner.id, limit=entries))

    owner, found = with_database(settings, work)
    rows = [entry_row(entry) for entry in found]
    if form == "json":
        print_rows([{**balance_row(owner), "entries": rows}], as_json=True)
        return
    if form == "table":
        print_rows([balance_row(owner)], as_json=False)
    print_form(rows, form, empty="There are no movements yet: capio credits topup")


@credit.command("topup")
@account_option
@amount_option
@reason_option
@once_option
@config_option
@json_option
def topup(
    *,
    account: str,
    amount: int,
    reason: str,
    once: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Add money that was paid."""
    _book(
        load_config(config_path),
        account,
        lambda credits_, owner: credits_.topup(
            owner, amount, who(), reason=reason, idempotency_key=once
        ),
        as_json,
    )


@credit.command("adjust")
@account_option
@amount_option
@reason_option
@once_option
@config_option
@json_option
def adjust(
    *,
    account: str,
    amount: int,
    reason: str,
    once: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Correct a balance: up, or down by a negative amount (--amount=-3.20)."""
    _book(
        load_config(config_path),
        account,
        lambda credits_, owner: credits_.adjust(
            owner, amount, who(), reason=reason, idempotency_key=once
        ),
        as_json,
    )


@credit.command("refund")
@click.argument("request_id")
@reason_option
@config_option
@json_option
def refund(request_id: str, reason: str, config_path: Path | None, as_json: bool) -> None:
    """Give back what the call with this request id was charged, once."""
    settings = load_config(config_path)

    async def work(database: Database) -> LedgerEntry:
        return await Credits(database).refund(request_id, who(), reason=reason)

    entry = with_database(settings, work)
    print_rows([entry_row(entry)], as_json)
    refresh_account(settings, entry.account_id)


def _book(
    settings: Settings,
    account: str,
    move: Callable[[Credits, str], Awaitable[Booked]],
    as_json: bool,
) -> None:
    async def work(database: Database) -> Booked:
        owner = await find_account(database, account)
        return await move(Credits(database), owner.id)

    booked = with_database(settings, work)
    print_rows([entry_row(booked.entry)], as_json)
    if booked.replayed:
        click.echo("This key was booked before: nothing has moved now.", err=True)
    refresh_account(settings, booked.entry.account_id)


def balance_row(account: Account) -> Row:
    """Return an account's money as a line."""
    return {
        "account_id": account.id,
        "name": account.name,
        "billing": account.terms.billing.value,
        **amount_fields("balance", account.balance_nanousd),
        **amount_fields("credit_limit", account.terms.credit_nanousd),
        **amount_fields("available", account.available_nanousd),
    }


def entry_row(entry: LedgerEntry) -> Row:
    """Return a movement as a line."""
    return {
        "id": entry.id,
        "account_id": entry.account_id,
        "at": optional_time(entry.at_ms // 1000),
        "kind": entry.kind.value,
        **amount_fields("amount", entry.amount_nanousd),
        **amount_fields("balance_after", entry.balance_after_nanousd),
        "request_id": entry.request_id,
        "reason": entry.reason,
        "actor": entry.actor,
    }
