"""`capio keys`: creates, lists, disables and revokes keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from gateway.cli.config import config_option, load_config
from gateway.cli.database import Operations, actor, every, run
from gateway.cli.diagnosis.catalogue import served_settings
from gateway.cli.formats import Instant, OutputRow, json_option, print_json, print_rows, record_text
from gateway.core.catalogue import build
from gateway.operations.keys import ChangedKey, KeyOperations, public_name
from gateway.operations.objects import key_object
from gateway.store.keys.repository import KeyDetails, KeyRow, NewKey


@click.group()
def keys() -> None:
    """Manage the keys with which clients authenticate."""


@keys.command("create")
@click.option("--account", required=True, help="The account's id or name.")
@click.option("--name", required=True, help="The key's name.")
@click.option("--expires", type=Instant("future"), help="A span like 30d or 12h, or a date in UTC.")
@click.option("--model", "models", multiple=True, help="Allow only this model. Repeatable.")
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
    """Create a key and print it to standard output. It cannot be shown again."""
    settings = load_config(config_path)
    catalogue = build(served_settings(settings), {})
    allowed = [public_name(catalogue, model, "model") for model in models] or None
    details = KeyDetails(name=name, expires_at=expires, models=allowed)

    async def work(operations: Operations) -> NewKey:
        owner = await operations.accounts.find(account)
        return await operations.keys.create(owner.id, details, actor())

    created = run(settings, work)
    if as_json:
        print_json({**_row(created.row), "key": created.raw})
        return
    # Standard output has the key alone, for `KEY=$(capio keys create ...)`.
    click.echo(created.raw)
    click.echo("\nSave this key now: it is not stored and cannot be shown again.\n", err=True)
    described = {field: value for field, value in _row(created.row).items() if field != "key"}
    click.echo(record_text(described), err=True)


@keys.command("list")
@click.option("--account", help="Only keys of this account: its id or name.")
@config_option
@json_option
def list_keys(account: str | None, config_path: Path | None, as_json: bool) -> None:
    """List keys, oldest first."""
    settings = load_config(config_path)

    async def work(operations: Operations) -> list[KeyRow]:
        owner = (await operations.accounts.find(account)).id if account else None
        return await every(lambda last: operations.keys.list(owner, after=last))

    rows = [_row(row) for row in run(settings, work)]
    print_rows(rows, as_json, empty="No keys found. Create one: capio keys create")


@keys.command("disable")
@click.argument("key_id")
@config_option
def disable_key(key_id: str, config_path: Path | None) -> None:
    """Reject a key until it is enabled again."""
    _change(config_path, lambda table: table.disable(key_id, actor()), "disabled")


@keys.command("enable")
@click.argument("key_id")
@config_option
def enable_key(key_id: str, config_path: Path | None) -> None:
    """Accept a disabled key again."""
    _change(config_path, lambda table: table.enable(key_id, actor()), "enabled")


@keys.command("revoke")
@click.argument("key_id")
@config_option
def revoke_key(key_id: str, config_path: Path | None) -> None:
    """Reject a key permanently."""
    _change(config_path, lambda table: table.revoke(key_id, actor()), "revoked")


def _change(
    config_path: Path | None,
    change: Callable[[KeyOperations], Awaitable[ChangedKey]],
    state: str,
) -> None:
    async def work(operations: Operations) -> ChangedKey:
        return await change(operations.keys)

    changed = run(load_config(config_path), work)
    click.echo(f"Key '{changed.row.id}' is {state}.")


def _row(row: KeyRow) -> OutputRow:
    shown = key_object(row)
    return {
        "id": shown["id"],
        "account_id": shown["account_id"],
        "name": shown["name"],
        "key": shown["shown"],
        "state": shown["state"],
        "expires_at": shown["expires_at"],
        "models": shown["models"],
        "created_at": shown["created_at"],
    }
