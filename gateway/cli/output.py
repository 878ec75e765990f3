"""What commands print: tables for people, JSON for programs, errors on standard error."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeVar

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, object]
Command = TypeVar("Command", bound=Callable[..., Any])

FAILURE = 1
MISUSE = 2
_PIPE_WIDTH = 1000

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
Form = Literal["table", "json", "csv"]


def form_options(command: Command) -> Command:
    """Give a command `--json` and `--csv`; its argument `form` says which."""
    as_json = click.option("--json", "form", flag_value="json", help="Print JSON, not a table.")
    as_csv = click.option("--csv", "form", flag_value="csv", help="Print CSV, not a table.")
    as_table = click.option("--table", "form", flag_value="table", default="table", hidden=True)
    return as_json(as_csv(as_table(command)))


def fail(lines: Sequence[str], code: int) -> NoReturn:
    """Print lines to standard error and end with this exit code."""
    for line in lines:
        click.echo(line, err=True)
    sys.exit(code)


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_form(rows: Sequence[Row], form: Form, empty: str = "There is nothing.") -> None:
    """Print rows in the form asked for; else as `print_rows`."""
    if form == "csv":
        print_csv(rows)
    else:
        print_rows(rows, form == "json", empty)


def print_csv(rows: Sequence[Row]) -> None:
    """Print rows that all have the same columns as CSV, with a head; nothing without rows."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    click.echo(text.getvalue(), nl=False)


def print_rows(rows: Sequence[Row], as_json: bool, empty: str = "There is nothing.") -> None:
    """
    Print rows that all have the same columns.

    Args:
        rows: Column -> value; a list or tuple is written with commas, None as a dash.
        as_json: Print a JSON array of objects instead.
        empty: What to say when there are no rows; not with `as_json`.
    """
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows)
    else:
        click.echo(empty, err=True)


def print_table(rows: Sequence[Row], title: str | None = None) -> None:
    """Print rows as a table; a pipe gets every column whole."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column, value in rows[0].items():
        right = isinstance(value, int) and not isinstance(value, bool)
        table.add_column(
            column.replace("_", " "), justify="right" if right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(map(str, value)) or "-"
        case _:
            return str(value)
