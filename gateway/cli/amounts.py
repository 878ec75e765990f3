"""Money and names as commands take them."""

from __future__ import annotations

import getpass
import os

import click

from gateway.core.money import read_dollars
from gateway.store.accounts.audit import Actor


class Dollars(click.ParamType[int]):
    """Nano-dollars from decimal dollars like `12.50`, exact."""

    name = "dollars"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return nano-dollars, or end with a usage error."""
        if isinstance(value, int):
            return value
        try:
            return read_dollars(str(value))
        except ValueError as failure:
            self.fail(str(failure), param, ctx)


def who() -> Actor:
    """Return who runs the command, for the ledger and the audit log."""
    try:
        return Actor(f"cli:{getpass.getuser()}")
    except (OSError, KeyError):  # a container's user without a name
        return Actor(f"cli:uid-{os.getuid()}")
