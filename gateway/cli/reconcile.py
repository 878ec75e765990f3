"""`capio reconcile`: proves that balances are what the ledger says."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from gateway.cli.config import config_option, load_config
from gateway.cli.output import FAILURE, Row, json_option, print_json, print_table
from gateway.cli.stores import with_database
from gateway.core.money import amount_fields
from gateway.store.accounts.reconcile import Difference
from gateway.store.accounts.reconcile import reconcile as check_books


@click.command()
@config_option
@json_option
def reconcile(config_path: Path | None, as_json: bool) -> None:
    """
    Recompute every balance from the ledger; exit with 1 if anything differs.

    Nothing is changed, and it may run at any time. What is wrong is set right by people, with
    `capio credits adjust`.
    """
    found = with_database(load_config(config_path), check_books)
    if as_json:
        print_json(msgspec.structs.asdict(found))
    else:
        if found.differences:
            print_table([_row(each) for each in found.differences], title="Differences")
        click.echo(
            f"{found.accounts} accounts and {found.entries} ledger entries: "
            f"{len(found.differences) or 'no'} differences."
        )
    if found.differences:
        sys.exit(FAILURE)


def _row(difference: Difference) -> Row:
    return {
        "check": difference.check,
        "account_id": difference.account_id,
        "subject": difference.subject,
        "expected": amount_fields("x", difference.expected_nanousd)["x"],
        "found": amount_fields("x", difference.found_nanousd)["x"],
    }
