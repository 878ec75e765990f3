"""`capio usage`, `capio audit`, `capio reconcile` and `capio migrate`: the SQL database."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from gateway.cli.config import config_option, load_config, store_secrets
from gateway.cli.database import Operations, run
from gateway.cli.formats import (
    FAILURE,
    Form,
    Instant,
    OutputRow,
    fail,
    form_options,
    json_option,
    print_form,
    print_json,
    print_rows,
    print_table,
)
from gateway.core.model import TOKEN_COLUMNS
from gateway.core.money import amount_fields, dollars
from gateway.errors import GatewayError
from gateway.operations.objects import group_fields, margin_fields
from gateway.operations.values import show_time
from gateway.store.accounts.audit import AuditEntry
from gateway.store.accounts.reconcile import Difference, Reconciliation
from gateway.store.sql import migrations
from gateway.store.usage.reports import MAX_LINES, CallFilter, GroupBy, UsageLine, UsageReport
from gateway.store.usage_sums.rebuild import UsageRebuild


@click.command()
@click.option(
    "--by",
    type=click.Choice([group.value for group in GroupBy]),
    multiple=True,
    default=(GroupBy.DAY.value,),
    show_default=True,
    help="Group by this; days are UTC. Repeatable.",
)
@click.option("--account", help="Only calls of this account: its id or name.")
@click.option("--key", "key_id", help="Only calls of the key with this id.")
@click.option("--since", type=Instant("past"), help="A span like 7d, or a date in UTC.")
@click.option("--until", type=Instant("past"), help="A span like 1d, or a date in UTC; exclusive.")
@click.option("--margin", is_flag=True, help="Show upstream costs and the margin.")
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
    """Summarize the calls, tokens and costs recorded in the ledger."""
    settings = load_config(config_path)
    groups = [GroupBy(each) for each in dict.fromkeys(by)]

    async def work(operations: Operations) -> UsageReport:
        which = CallFilter(
            account_id=(await operations.accounts.find(account)).id if account else None,
            key_id=key_id,
            since_ms=None if since is None else since * 1000,
            until_ms=None if until is None else until * 1000,
        )
        return await operations.records.usage(groups, which, max_lines=MAX_LINES)

    report = run(settings, work)
    rows = [_usage_row(groups, line, margin) for line in report.lines]
    print_form(rows, form, empty="No calls found.")
    if report.is_cut:
        click.echo(
            f"Only the first {len(rows)} lines are shown; choose a shorter period.", err=True
        )


def _usage_row(groups: Sequence[GroupBy], line: UsageLine, margin: bool) -> OutputRow:
    return {
        **group_fields(groups, line),
        **{name: getattr(line.usage, name) for name in TOKEN_COLUMNS},
        **amount_fields("cost", line.cost_nanousd),
        **(margin_fields(line) if margin else {}),
    }


@click.command()
@click.option("--object", "object_id", help="Only changes of the object with this id.")
@click.option(
    "--limit",
    default=50,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Number of changes to show.",
)
@config_option
@json_option
def audit(object_id: str | None, limit: int, config_path: Path | None, as_json: bool) -> None:
    """Show changes of accounts, keys, credits and codes, newest first."""
    settings = load_config(config_path)

    async def work(operations: Operations) -> list[AuditEntry]:
        return list(await operations.records.audit(object_id=object_id, limit=limit))

    found = run(settings, work)
    if as_json:
        print_json(found)
        return
    print_rows([_audit_row(entry) for entry in found], as_json, empty="No changes found.")


def _audit_row(entry: AuditEntry) -> OutputRow:
    return {
        "id": entry.id,
        "at": show_time(entry.at_ms // 1000),
        "actor": entry.actor,
        "action": entry.action,
        "object": entry.object,
        "changed": _changed(entry),
        "address": entry.address,
    }


def _changed(entry: AuditEntry) -> str:
    """Return the fields that a change set, on one line."""
    before, after = entry.before or {}, entry.after or {}
    names = [name for name in after if before.get(name) != after[name]]
    return ", ".join(
        f"{name}={msgspec.json.encode(after[name]).decode()}"
        for name in names
        if after[name] or name in before  # a new object's unset fields would fill the line
    )


@click.command()
@click.option(
    "--usage", "of_usage", is_flag=True, help="Rebuild the usage sums from the recorded calls."
)
@config_option
@json_option
def reconcile(config_path: Path | None, as_json: bool, of_usage: bool) -> None:
    """
    Recompute all balances from the ledger and report differences.

    Exits with 1 if there are any. Nothing is changed, and it is safe to run at any time. To correct
    a balance, use `capio credits adjust`.

    With --usage, the sums behind the usage pages are compared with the recorded calls instead, and
    corrected where they differ.
    """
    if of_usage:
        _rebuild_usage(config_path, as_json)
        return

    async def work(operations: Operations) -> Reconciliation:
        return await operations.records.reconcile()

    found = run(load_config(config_path), work)
    if as_json:
        print_json(msgspec.structs.asdict(found))
    else:
        if found.differences:
            print_table([_difference_row(each) for each in found.differences], title="Differences")
        click.echo(
            f"{found.accounts} accounts and {found.entries} ledger entries: "
            f"{len(found.differences) or 'no'} differences."
        )
    if found.differences:
        sys.exit(FAILURE)


def _rebuild_usage(config_path: Path | None, as_json: bool) -> None:
    settings = load_config(config_path)

    async def work(operations: Operations) -> UsageRebuild:
        days = settings.sql.usage_retention_days
        return await operations.records.rebuild_usage(retention_days=days)

    rebuilt = run(settings, work)
    if as_json:
        print_json(msgspec.structs.asdict(rebuilt))
        return
    click.echo(
        f"{rebuilt.quarters} quarters of an hour compared with the recorded calls: "
        f"{rebuilt.corrected or 'no'} sums corrected."
    )


def _difference_row(difference: Difference) -> OutputRow:
    found = difference.found_nanousd
    return {
        "check": difference.check,
        "account_id": difference.account_id,
        "subject": difference.subject,
        "expected": dollars(difference.expected_nanousd),
        "found": None if found is None else dollars(found),
    }


@click.command()
@config_option
def migrate(config_path: Path | None) -> None:
    """Upgrade the database schema. Safe to repeat and to run concurrently."""
    settings = load_config(config_path)
    secrets = store_secrets(settings)
    try:
        steps = asyncio.run(migrations.migrate(settings, secrets.sql_password))
    except GatewayError as error:
        fail([f"{error.message} ({error.detail})"], FAILURE)
    except OSError as error:
        fail([str(error)], FAILURE)
    for step in steps:
        click.echo(f"Applied migration {step}.")
    if not steps:
        click.echo("The schema is up to date.")
