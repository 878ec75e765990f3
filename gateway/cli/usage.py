"""`capio usage`: what was called, what it brought in and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from gateway.cli.config import config_option, load_config
from gateway.cli.output import Form, Row, form_options, print_form
from gateway.cli.stores import find_account, with_database
from gateway.cli.times import Instant
from gateway.core.model import TOKEN_COLUMNS
from gateway.core.money import amount_fields
from gateway.store.sql.database import Database
from gateway.store.usage.reports import CallFilter, GroupBy, UsageLine, UsageReport, UsageReports


@click.command()
@click.option(
    "--by",
    type=click.Choice([group.value for group in GroupBy]),
    multiple=True,
    default=(GroupBy.DAY.value,),
    show_default=True,
    help="What a line stands for; days are UTC. May be repeated.",
)
@click.option("--account", help="Only of this account: its id, or its name.")
@click.option("--key", "key_id", help="Only of the key with this id.")
@click.option("--since", type=Instant("past"), help="A span like 7d, or a date in UTC.")
@click.option("--until", type=Instant("past"), help="A span like 1d, or a date; not included.")
@click.option("--margin", is_flag=True, help="Show what upstreams take, and what is left.")
@config_option
@form_options
def usage(
    *,
    by: tuple[str, ...],
    account: str | None,
    key_id: str | None,
    since: int | None,
    until: int | None,
    margin: bool,
    config_path: Path | None,
    form: Form,
) -> None:
    """Sum up calls, tokens and money, as far as the ledger has come."""
    settings = load_config(config_path)
    groups = [GroupBy(each) for each in dict.fromkeys(by)]

    async def work(database: Database) -> UsageReport:
        which = CallFilter(
            account_id=(await find_account(database, account)).id if account else None,
            key_id=key_id,
            since_ms=_milliseconds(since),
            until_ms=_milliseconds(until),
        )
        return await UsageReports(database).report(groups, which)

    report = with_database(settings, work)
    rows = [_row(groups, line, margin) for line in report.lines]
    print_form(rows, form, empty="There were no calls.")
    if report.is_cut:
        click.echo(
            f"There are more than these {len(rows)} lines: ask for a shorter time.", err=True
        )


def _row(groups: Sequence[GroupBy], line: UsageLine, margin: bool) -> Row:
    row = {
        **{group.value: name for group, name in zip(groups, line.groups, strict=True)},
        "calls": line.calls,
        "failed": line.failed,
        **{name: getattr(line.usage, name) for name in TOKEN_COLUMNS},
        **amount_fields("cost", line.cost_nanousd),
    }
    if not margin:
        return row
    return {
        **row,
        **amount_fields("upstream_cost", line.upstream_cost_nanousd),
        **amount_fields("margin", line.margin_nanousd),
        "calls_without_cost": line.calls_without_cost,
    }


def _milliseconds(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000
