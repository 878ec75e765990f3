"""`capio audit`: who changed what."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from gateway.cli.config import config_option, load_config
from gateway.cli.output import Row, json_option, print_json, print_rows
from gateway.cli.stores import with_database
from gateway.cli.times import optional_time
from gateway.store.accounts.audit import AuditEntry, AuditLog
from gateway.store.sql.database import Database


@click.command()
@click.option("--object", "object_id", help="Only what became of the object with this id.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@config_option
@json_option
def audit(object_id: str | None, limit: int, config_path: Path | None, as_json: bool) -> None:
    """Show who changed accounts, keys, credits and codes, the newest first."""
    settings = load_config(config_path)

    async def work(database: Database) -> list[AuditEntry]:
        return list(await AuditLog(database).list(object_id=object_id, limit=limit))

    found = with_database(settings, work)
    if as_json:
        print_json(found)
        return
    print_rows([_row(entry) for entry in found], as_json, empty="Nothing has been changed yet.")


def _row(entry: AuditEntry) -> Row:
    return {
        "id": entry.id,
        "at": optional_time(entry.at_ms // 1000),
        "actor": entry.actor,
        "action": entry.action,
        "object": entry.object,
        "changed": _changed(entry),
        "address": entry.address,
    }


def _changed(entry: AuditEntry) -> str:
    """Return what differs between before and after, short enough for a line."""
    before, after = entry.before or {}, entry.after or {}
    names = [name for name in after if before.get(name) != after[name]]
    return ", ".join(
        f"{name}={msgspec.json.encode(after[name]).decode()}" for name in names if after[name]
    )
