"""`capio users`: the users of the pages, and their sign-in links."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.config import config_option, load_config
from gateway.cli.database import Operations, actor, every, run
from gateway.cli.formats import json_option, print_record, print_rows
from gateway.operations.people import ROLES
from gateway.operations.values import show_time
from gateway.store.people.links import LinkKind
from gateway.store.people.users import User


@click.group()
def users() -> None:
    """Manage the people who use the pages."""


@users.command("setup-link")
@config_option
def setup_link(config_path: Path | None) -> None:
    """
    Print a link that makes the first operator.

    It works once, for an hour, and only while there is no operator.
    """
    link = run(load_config(config_path), lambda on: on.people.setup_link(actor()))
    click.echo(link)


@users.command("link")
@config_option
@click.argument("login")
@click.option("--reset", is_flag=True, help="Let them choose a new password.")
def make_link(config_path: Path | None, login: str, reset: bool) -> None:
    """Print a link that signs a user in once, within an hour."""
    kind = LinkKind.RESET if reset else LinkKind.ENTER
    click.echo(run(load_config(config_path), lambda on: on.people.link(login, kind, actor())))


@users.command("invite")
@config_option
@click.option("--account", required=True, help="Id or name of the account.")
@click.option(
    "--role", type=click.Choice(ROLES), default="owner", show_default=True, help="Their role."
)
def invite(config_path: Path | None, account: str, role: str) -> None:
    """Print a link with which someone joins an account within seven days."""

    async def work(on: Operations) -> str:
        found = await on.accounts.find(account)
        return await on.people.invite(found.id, role, actor())

    click.echo(run(load_config(config_path), work))


@users.command("list")
@config_option
@json_option
def list_users(config_path: Path | None, as_json: bool) -> None:
    """List all users."""

    async def work(on: Operations) -> list[User]:
        return await every(lambda after: on.people.list(after=after))

    print_rows([_row(user) for user in run(load_config(config_path), work)], as_json)


@users.command("operator")
@config_option
@click.argument("login")
@click.option("--remove", is_flag=True, help="Revoke the role.")
@json_option
def operator(config_path: Path | None, login: str, remove: bool, as_json: bool) -> None:
    """Make a user an operator. They are signed out."""
    user = run(
        load_config(config_path),
        lambda on: on.people.set_operator(login, actor(), is_operator=not remove),
    )
    print_record(_row(user), as_json)


@users.command("disable")
@config_option
@click.argument("login")
@json_option
def disable(config_path: Path | None, login: str, as_json: bool) -> None:
    """Sign a user out and keep them from signing in."""
    _set_disabled(config_path, login, as_json, disabled=True)


@users.command("enable")
@config_option
@click.argument("login")
@json_option
def enable(config_path: Path | None, login: str, as_json: bool) -> None:
    """Let a disabled user sign in again."""
    _set_disabled(config_path, login, as_json, disabled=False)


def _set_disabled(config_path: Path | None, login: str, as_json: bool, *, disabled: bool) -> None:
    user = run(
        load_config(config_path),
        lambda on: on.people.set_disabled(login, actor(), disabled=disabled),
    )
    print_record(_row(user), as_json)


def _row(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "login": user.login,
        "name": user.name,
        "operator": user.is_operator,
        "second_factor": user.totp is not None,
        "state": "active" if user.disabled_at is None else "disabled",
        "last_seen": show_time(user.seen_at),
    }
