"""The `capio` command and its subcommands, which are imported on demand."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click

from gateway import __version__
from gateway.build_kind import build_kind


class _Lazy(NamedTuple):
    module: str
    attribute: str
    help: str


_COMMANDS = {
    "serve": _Lazy("process.serving", "serve", "Run the gateway."),
    "demo": _Lazy("process.demo", "demo", "Run the gateway with a simulated upstream."),
    "reload": _Lazy("process.running", "reload", "Make a running gateway read its configuration."),
    "drain": _Lazy("process.running", "drain", "Make a running gateway report not ready."),
    "restart": _Lazy("process.running", "restart", "Replace the workers of a running gateway."),
    "status": _Lazy("diagnosis.status", "status", "Show what the running gateway does."),
    "check-config": _Lazy("config", "check_config", "Validate the configuration."),
    "doctor": _Lazy("diagnosis.doctor", "doctor", "Connect to everything and say what is wrong."),
    "config": _Lazy("diagnosis.effective", "config", "Print the effective settings."),
    "migrate": _Lazy("records", "migrate", "Upgrade the database schema."),
    "ledger": _Lazy("process.ledger", "ledger", "Run only the ledger writer."),
    "console": _Lazy("process.console", "console", "Run only the pages."),
    "accounts": _Lazy("accounts", "accounts", "Manage accounts."),
    "keys": _Lazy("keys", "keys", "Manage the keys of accounts."),
    "models": _Lazy("diagnosis.models", "models", "Show the models that clients can use."),
    "health": _Lazy("health", "health", "Show the health of deployments, over all workers."),
    "probe": _Lazy("health", "probe", "Test a deployment with a call of one token."),
    "users": _Lazy("people.users", "users", "Manage the people who use the pages."),
    "limits": _Lazy("limits", "limits", "Manage rate limits and budgets."),
    "credits": _Lazy("credits", "credit", "Manage balances and show the ledger."),
    "codes": _Lazy("credits", "codes", "Manage redemption codes."),
    "usage": _Lazy("records", "usage", "Summarize calls, tokens and costs."),
    "dead-letters": _Lazy("dead_letters", "dead_letters", "Book usage that was set aside."),
    "reconcile": _Lazy("records", "reconcile", "Recompute all balances from the ledger."),
    "audit": _Lazy("records", "audit", "Show who changed what."),
}


class _Commands(click.Group):
    """Lazy command group: `capio --help` imports no subcommand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        lazy = _COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command = getattr(importlib.import_module(f"gateway.cli.{lazy.module}"), lazy.attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        from gateway.operations.values import InvalidValueError  # noqa: PLC0415 -- not for --help

        try:
            return super().invoke(ctx)
        except InvalidValueError as error:
            option = (error.param or "").removesuffix("_nanousd").replace("_", "-")
            raise click.UsageError(f"--{option} {error.problem}.") from error

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in _COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(f"{__version__} ({build_kind()})", prog_name="capio")
def main() -> None:
    """A streaming gateway for large language models."""
