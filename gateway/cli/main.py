"""The `capio` command and the list of its sub-commands, each loaded only when it is called."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click

from gateway import __version__


class _Lazy(NamedTuple):
    module: str
    attribute: str
    help: str


_COMMANDS = {
    "serve": _Lazy("serving", "serve", "Run the gateway."),
    "demo": _Lazy("serving", "demo", "Run the gateway with a made-up upstream, to look around."),
    "check-config": _Lazy("checking", "check_config", "Report what a configuration says."),
    "migrate": _Lazy("schema", "migrate", "Bring the database to this program's schema."),
    "ledger": _Lazy("ledger", "ledger", "Run the ledger writer alone."),
    "accounts": _Lazy("accounts", "accounts", "Who pays for the calls of a set of keys."),
    "keys": _Lazy("keys", "keys", "The keys that callers use."),
    "models": _Lazy("models", "models", "What callers may ask for."),
    "limits": _Lazy("limits", "limits", "How fast and for how much they may call."),
    "credits": _Lazy("credits", "credit", "What accounts may spend, and every movement of it."),
    "codes": _Lazy("codes", "codes", "Redemption codes, each worth an amount once."),
    "usage": _Lazy("usage", "usage", "What was called, what it brought in and what it cost."),
    "reconcile": _Lazy("reconcile", "reconcile", "Recompute every balance from the ledger."),
    "audit": _Lazy("audit", "audit", "Who changed what."),
}


class _Commands(click.Group):
    """Knows its commands' names and help by heart, so that `capio --help` loads none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        lazy = _COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command = getattr(importlib.import_module(f"gateway.cli.{lazy.module}"), lazy.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in _COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="capio")
def main() -> None:
    """A streaming gateway for large language models."""
