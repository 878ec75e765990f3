"""`capio codes`: redemption codes, each worth an amount once."""

from __future__ import annotations

import time
from pathlib import Path

import click

from gateway.cli.amounts import Dollars, who
from gateway.cli.config import config_option, load_config
from gateway.cli.output import MISUSE, Form, Row, fail, form_options, print_form
from gateway.cli.stores import every, with_database
from gateway.cli.times import Instant, optional_time
from gateway.core.money import amount_fields
from gateway.store.accounts.codes import MAX_CODES, Code, CodeDetails, Codes, NewCode
from gateway.store.sql.database import Database


@click.group()
def codes() -> None:
    """Redemption codes, each worth an amount once."""


@codes.command("create")
@click.option("--amount", type=Dollars(), required=True, help="What each is worth, in dollars.")
@click.option("--count", type=click.IntRange(1, MAX_CODES), default=1, show_default=True)
@click.option("--expires", type=Instant("future"), help="A span like 30d or 12h, or a date in UTC.")
@click.option("--note", help="What they are for.")
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
    """Make codes and show them, this once."""
    settings = load_config(config_path)
    if amount <= 0:
        fail(["--amount: a code must be worth more than nothing"], MISUSE)
    details = CodeDetails(amount_nanousd=amount, note=note, expires_at=expires)

    async def work(database: Database) -> list[NewCode]:
        return await Codes(database).create(details, who(), count)

    rows = [{"code": made.raw, **_row(made.code)} for made in with_database(settings, work)]
    print_form(rows, form)
    if form == "table":
        click.echo("Keep them now: they are not stored and cannot be shown again.", err=True)


@codes.command("list")
@config_option
@form_options
def list_codes(config_path: Path | None, form: Form) -> None:
    """List codes, the oldest first; of each only its last four digits."""
    settings = load_config(config_path)

    async def work(database: Database) -> list[Code]:
        table = Codes(database)
        return await every(lambda last: table.list(after=last))

    rows = [_row(code) for code in with_database(settings, work)]
    print_form(rows, form, empty="There are no codes yet: capio codes create")


@codes.command("revoke")
@click.argument("code_id")
@config_option
def revoke_code(code_id: str, config_path: Path | None) -> None:
    """Make a code that nobody has redeemed worthless, by its id."""
    settings = load_config(config_path)

    async def work(database: Database) -> Code:
        return await Codes(database).revoke(code_id, who())

    with_database(settings, work)
    click.echo(f"The code {code_id} is revoked.")


def _row(code: Code) -> Row:
    return {
        "id": code.id,
        "ends_in": code.last_four,
        **amount_fields("amount", code.amount_nanousd),
        "state": code.state(time.time()),
        "expires_at": optional_time(code.expires_at),
        "redeemed_by": code.redeemed_by,
        "redeemed_at": optional_time(code.redeemed_at),
        "note": code.note,
        "created_by": code.created_by,
        "created_at": optional_time(code.created_at),
    }
