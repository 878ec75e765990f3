"""`capio usage`: what was called."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from gateway.cli.config import config_option, load_config
from gateway.cli.output import Row, json_option, print_rows
from gateway.cli.stores import find_account, with_database
from gateway.cli.times import Instant
from gateway.store.queries import CallFilter, GroupBy, UsageQueries, UsageSum
from gateway.store.sql import Database


@click.command()
@click.option(
    "--by",
    type=click.Choice([group.value for group in GroupBy]),
    default=GroupBy.DAY.value,
    show_default=True,
    help="What a line stands for; days are UTC.",
)
@click.option("--account", help="Only of this account: its id, or its name.")
@click.option("--key", "key_id", help="Only of the key with this id.")
@click.option("--since", type=Instant("past"), help="A span like 7d, or a date in UTC.")
@click.option("--until", type=Instant("past"), help="A span like 1d, or a date; not included.")
@config_option
@json_option
def usage(
    *,
    by: str,
    account: str | None,
    key_id: str | None,
    since: int | None,
    until: int | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Sum up calls and tokens by day, model or key, as far as the ledger has come."""
    settings = load_config(config_path)

    async def work(database: Database) -> list[UsageSum]:
        which = CallFilter(
            account_id=(await find_account(database, account)).id if account else None,
            key_id=key_id,
            since_ms=_milliseconds(since),
            until_ms=_milliseconds(until),
        )
        return await UsageQueries(database).usage_by(GroupBy(by), which)

    rows = [_row(by, each) for each in with_database(settings, work)]
    print_rows(rows, as_json, empty="There were no calls.")


def _row(by: str, line: UsageSum) -> Row:
    return {
        by: line.group,
        "calls": line.calls,
        "failed": line.failed,
        **msgspec.structs.asdict(line.usage),
    }


def _milliseconds(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000
