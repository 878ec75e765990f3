"""`capio keys`: make keys, show them, take them away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from gateway.cli.amounts import who
from gateway.cli.config import config_option, load_config, store_secrets
from gateway.cli.output import FAILURE, MISUSE, Row, fail, json_option, print_json, print_rows
from gateway.cli.revocation import PublishError, publish
from gateway.cli.stores import every, find_account, with_database
from gateway.cli.times import Instant, optional_time
from gateway.core.catalogue import build
from gateway.settings import Settings
from gateway.settings.errors import did_you_mean
from gateway.store.keys.repository import KeyChange, KeyDetails, KeyRow, Keys, NewKey
from gateway.store.sql.database import Database


@click.group()
def keys() -> None:
    """The keys that callers use."""


@keys.command("create")
@click.option("--account", required=True, help="Id of the account, or its name.")
@click.option("--name", required=True, help="What the key is for.")
@click.option("--expires", type=Instant("future"), help="A span like 30d or 12h, or a date in UTC.")
@click.option("--model", "models", multiple=True, help="Allow only this model; may be repeated.")
@config_option
@json_option
def create_key(
    *,
    account: str,
    name: str,
    expires: int | None,
    models: tuple[str, ...],
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Make a key and show it, this once."""
    settings = load_config(config_path)
    allowed = public_names(settings, models, "--model") if models else None
    details = KeyDetails(name=name, expires_at=expires, models=allowed)

    async def work(database: Database) -> NewKey:
        owner = await find_account(database, account)
        keys = Keys(database, settings.brand.key_prefix)
        return await keys.create(owner.id, details, by=who())

    made = with_database(settings, work)
    if as_json:
        print_json({**_row(made.row), "key": made.raw})
        return
    print_rows([_row(made.row)], as_json=False)
    click.echo(made.raw)
    click.echo("Keep it now: it is not stored and cannot be shown again.", err=True)


@keys.command("list")
@click.option("--account", help="Only of this account: its id, or its name.")
@config_option
@json_option
def list_keys(account: str | None, config_path: Path | None, as_json: bool) -> None:
    """List keys, the oldest first."""
    settings = load_config(config_path)

    async def work(database: Database) -> list[KeyRow]:
        owner = (await find_account(database, account)).id if account else None
        table = Keys(database, settings.brand.key_prefix)
        return await every(lambda last: table.list(owner, after=last))

    rows = [_row(row) for row in with_database(settings, work)]
    print_rows(rows, as_json, empty="There are no keys yet: capio keys create")


@keys.command("disable")
@click.argument("key_id")
@config_option
def disable_key(key_id: str, config_path: Path | None) -> None:
    """Refuse a key until it is enabled again."""
    _change(config_path, lambda table: table.disable(key_id, by=who()), "disabled")


@keys.command("enable")
@click.argument("key_id")
@config_option
def enable_key(key_id: str, config_path: Path | None) -> None:
    """Accept a disabled key again."""
    _change(config_path, lambda table: table.enable(key_id, by=who()), "enabled")


@keys.command("revoke")
@click.argument("key_id")
@config_option
def revoke_key(key_id: str, config_path: Path | None) -> None:
    """Refuse a key for ever."""
    _change(config_path, lambda table: table.revoke(key_id, by=who()), "revoked")


def _change(
    config_path: Path | None, change: Callable[[Keys], Awaitable[KeyChange]], done: str
) -> None:
    """Change a key in SQL, which is the truth, then tell every cache."""
    settings = load_config(config_path)

    async def work(database: Database) -> KeyChange:
        return await change(Keys(database, settings.brand.key_prefix))

    changed = with_database(settings, work)
    tell_change(settings, changed, done)
    click.echo(f"The key {changed.principal.key_id} is {done}.")


def tell_change(settings: Settings, changed: KeyChange, done: str) -> None:
    """Tell every cache of a key's change; end with exit code 1 if Redis cannot be told."""
    key_id = changed.principal.key_id
    try:
        told = asyncio.run(publish(settings, store_secrets(settings), changed))
    except PublishError as failure:
        fail(
            [
                f"The key {key_id} is {done} in the database, but Redis could not be told: "
                f"{failure}.",
                "The gateways may go by what they remember. Run the command again.",
            ],
            FAILURE,
        )
    if not told:
        click.echo(
            "The gateway of this data directory does not run: SQL only is changed.", err=True
        )


def public_names(settings: Settings, models: tuple[str, ...], option: str) -> list[str]:
    """Return the public names that the given names and aliases mean, or end with exit code 2."""
    catalogue = build(settings, {})
    names: list[str] = []
    for asked in models:
        model = catalogue.resolve(asked)
        if model is None:
            hint = did_you_mean(asked, catalogue.names)
            fail([f"{option}: there is no model {asked}{hint}"], MISUSE)
        names.append(model.name)
    return names


def _row(row: KeyRow) -> Row:
    return {
        "id": row.id,
        "account_id": row.account_id,
        "name": row.name,
        "key": f"{row.prefix}...{row.last_four}",
        "state": row.state,
        "expires_at": optional_time(row.expires_at),
        "models": None if row.models is None else sorted(row.models),
        "created_at": optional_time(row.created_at),
    }
