"""`capio credits` and `capio codes`: balances, the ledger and redemption codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, Unpack

import click

from gateway.cli.config import config_option, load_config
from gateway.cli.database import Operations, actor, every, run
from gateway.cli.formats import (
    Dollars,
    Form,
    Instant,
    OutputRow,
    form_options,
    json_option,
    print_form,
    print_record,
    print_rows,
)
from gateway.operations.objects import balance_fields, code_object, entry_object, pick
from gateway.operations.values import InvalidValueError, show_time
from gateway.store.accounts.accounts import Account
from gateway.store.accounts.codes import MAX_CODES, Code, CodeDetails, NewCode
from gateway.store.accounts.credits import Booked, EntryKind, LedgerEntry

_ENTRY_COLUMNS = (
    "id", "account_id", "at", "kind", "amount", "amount_nanousd", "balance_after",
    "balance_after_nanousd", "request_id", "reason", "actor",
)  # fmt: skip
_CODE_COLUMNS = (
    "id", "ends_in", "amount", "amount_nanousd", "state", "expires_at", "redeemed_by",
    "redeemed_at", "note", "created_by", "created_at",
)  # fmt: skip

account_option = click.option("--account", required=True, help="The account's id or name.")
amount_option = click.option(
    "--amount", type=Dollars(), required=True, help="Dollars, exact: 12.50 or 0.000000001."
)
reason_option = click.option("--reason", required=True, help="Recorded in the ledger.")
once_option = click.option(
    "--once", metavar="KEY", help="Idempotency key: a repeated command books nothing."
)


class _BookingOptions(TypedDict):
    account: str
    amount: int
    reason: str
    once: str | None
    config_path: Path | None
    as_json: bool


def booking_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a command that books an amount, see `_BookingOptions`."""
    options = (
        account_option,
        amount_option,
        reason_option,
        once_option,
        config_option,
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group("credits")
def credit() -> None:
    """Manage balances and show the ledger."""


@credit.command("show")
@account_option
@click.option("--entries", default=20, show_default=True, help="Number of ledger entries to show.")
@config_option
@form_options
def show_credits(*, account: str, entries: int, config_path: Path | None, form: Form) -> None:
    """Show an account's balance and its last ledger entries, newest first."""
    settings = load_config(config_path)

    async def work(operations: Operations) -> tuple[Account, list[LedgerEntry]]:
        owner = await operations.accounts.find(account)
        return owner, list(await operations.accounts.entries(owner.id, limit=entries))

    owner, found = run(settings, work)
    balance = {"account_id": owner.id, "name": owner.name, **balance_fields(owner)}
    rows = [_entry_row(entry) for entry in found]
    if form == "json":
        print_rows([{**balance, "entries": rows}], as_json=True)
        return
    if form == "table":
        print_record(balance, as_json=False)
    print_form(rows, form, empty="No ledger entries found. Add money: capio credits topup")


@credit.command("topup")
@booking_options
def topup(**options: Unpack[_BookingOptions]) -> None:
    """Add a payment to a balance."""
    _book(EntryKind.TOPUP, **options)


@credit.command("adjust")
@booking_options
def adjust(**options: Unpack[_BookingOptions]) -> None:
    """Correct a balance. A negative amount reduces it: --amount=-3.20."""
    _book(EntryKind.ADJUSTMENT, **options)


@credit.command("refund")
@click.argument("request_id")
@reason_option
@config_option
@json_option
def refund(request_id: str, reason: str, config_path: Path | None, as_json: bool) -> None:
    """Refund the charge of a call, once."""
    settings = load_config(config_path)

    async def work(operations: Operations) -> LedgerEntry:
        return await operations.accounts.refund(request_id, actor(), reason=reason)

    print_record(_entry_row(run(settings, work)), as_json)


def _book(
    kind: EntryKind,
    *,
    account: str,
    amount: int,
    reason: str,
    once: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    settings = load_config(config_path)

    async def work(operations: Operations) -> Booked:
        owner = await operations.accounts.find(account)
        return await operations.accounts.book(
            owner.id, kind, amount, actor(), reason=reason, idempotency_key=once
        )

    booked = run(settings, work)
    print_record(_entry_row(booked.entry), as_json)
    if booked.replayed:
        click.echo("This idempotency key was already used: no new entry was booked.", err=True)


@click.group()
def codes() -> None:
    """Manage redemption codes, each worth an amount once."""


@codes.command("create")
@click.option("--amount", type=Dollars(), required=True, help="The value of each code in dollars.")
@click.option(
    "--count",
    type=click.IntRange(1, MAX_CODES),
    default=1,
    show_default=True,
    help="Number of codes to create.",
)
@click.option("--expires", type=Instant("future"), help="A span like 30d or 12h, or a date in UTC.")
@click.option("--note", help="A note kept with the codes.")
@config_option
@form_options
def create_codes(
    *,
    amount: int,
    count: int,
    expires: int | None,
    note: str | None,
    config_path: Path | None,
    form: Form,
) -> None:
    """Create codes and print them. They cannot be shown again."""
    settings = load_config(config_path)
    if amount <= 0:
        raise InvalidValueError("amount", "must be greater than 0")
    details = CodeDetails(amount_nanousd=amount, note=note, expires_at=expires)

    async def work(operations: Operations) -> list[NewCode]:
        return await operations.codes.create(details, count, actor())

    rows = [{"code": each.raw, **_code_row(each.code)} for each in run(settings, work)]
    print_form(rows, form)
    if form == "table":
        click.echo("Save these codes now: they are not stored and cannot be shown again.", err=True)


@codes.command("list")
@config_option
@form_options
def list_codes(config_path: Path | None, form: Form) -> None:
    """List codes, oldest first, by their last four digits."""
    settings = load_config(config_path)

    async def work(operations: Operations) -> list[Code]:
        return await every(lambda last: operations.codes.list(after=last))

    rows = [_code_row(code) for code in run(settings, work)]
    print_form(rows, form, empty="No codes found. Create some: capio codes create")


@codes.command("revoke")
@click.argument("code_id")
@config_option
def revoke_code(code_id: str, config_path: Path | None) -> None:
    """Revoke a code that has not been redeemed, by its id."""
    settings = load_config(config_path)

    async def work(operations: Operations) -> Code:
        return await operations.codes.revoke(code_id, actor())

    run(settings, work)
    click.echo(f"Code '{code_id}' is revoked.")


def _entry_row(entry: LedgerEntry) -> OutputRow:
    shown = {**entry_object(entry), "at": show_time(entry.at_ms // 1000)}
    return pick(shown, _ENTRY_COLUMNS)


def _code_row(code: Code) -> OutputRow:
    return pick(code_object(code), _CODE_COLUMNS)
