"""Parses dollars and times on the command line; prints tables, JSON and CSV."""

from __future__ import annotations

import csv
import datetime
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

from gateway.core.money import read_dollars
from gateway.operations.values import read_relative_time

OutputRow = Mapping[str, object]
Command = TypeVar("Command", bound=Callable[..., Any])

FAILURE = 1
MISUSE = 2
_PIPE_WIDTH = 1000

_JSON_HELP = "Print JSON instead of a table."
json_option = click.option("--json", "as_json", is_flag=True, help=_JSON_HELP)
Form = Literal["table", "json", "csv"]


class Dollars(click.ParamType[int]):
    """Nano-dollars from decimal dollars like `12.50`."""

    name = "dollars"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return nano-dollars, or exit with a usage error."""
        if isinstance(value, int):
            return value
        try:
            return read_dollars(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Instant(click.ParamType[int]):
    """
    Unix seconds from a span (`30d`, `12h`, `90m`, `2w`) or an ISO date or time, UTC by default.

    Args:
        direction: Whether a span counts from now into the `future` or into the `past`. Times in
            the past are rejected for `future`.
    """

    name = "time"

    def __init__(self, direction: Literal["future", "past"]) -> None:
        self._sign = 1 if direction == "future" else -1

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return Unix seconds, or exit with a usage error."""
        if isinstance(value, int):
            return value
        now = datetime.datetime.now(datetime.UTC)
        try:
            seconds = read_relative_time(str(value), now, self._sign)
        except ValueError:
            self.fail(
                f"{value!r} is not a span like 30d or 12h, nor a date like 2027-01-31", param, ctx
            )
        if self._sign > 0 and seconds <= now.timestamp():
            self.fail(f"{value!r} has already passed", param, ctx)
        return seconds


def form_options(command: Command) -> Command:
    """Add `--json` and `--csv` to a command; its argument `form` is the format chosen."""
    as_json = click.option("--json", "form", flag_value="json", help=_JSON_HELP)
    as_csv = click.option("--csv", "form", flag_value="csv", help="Print CSV instead of a table.")
    as_table = click.option("--table", "form", flag_value="table", default="table", hidden=True)
    return as_json(as_csv(as_table(command)))


def fail(lines: Sequence[str], code: int) -> NoReturn:
    """Print lines to standard error and exit with `code`."""
    for line in lines:
        click.echo(line, err=True)
    sys.exit(code)


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_form(rows: Sequence[OutputRow], form: Form, empty: str = "Nothing found.") -> None:
    """Print rows in the given format; `empty` as in `print_rows`."""
    if form == "csv":
        print_csv(rows)
    else:
        print_rows(rows, form == "json", empty)


def print_csv(rows: Sequence[OutputRow]) -> None:
    """Print rows with the same columns as CSV with a header line; nothing if there are none."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    click.echo(text.getvalue(), nl=False)


def print_record(row: OutputRow, as_json: bool) -> None:
    """Print one row: a line for each field, or a JSON array of one object."""
    if as_json:
        print_json([row])
    else:
        click.echo(record_text(row))


def record_text(row: OutputRow) -> str:
    """Return a row as one line for each field, without amounts in nano-dollars."""
    shown = _without_nanousd(row)
    width = max(map(len, shown))
    return "\n".join(
        f"{name.replace('_', ' '):{width}}  {_cell(value)}" for name, value in shown.items()
    )


def print_rows(rows: Sequence[OutputRow], as_json: bool, empty: str = "Nothing found.") -> None:
    """
    Print rows with the same columns.

    Args:
        rows: Columns to values; lists are separated by commas, None is shown as a dash.
        as_json: Print a JSON array of objects instead of a table.
        empty: Printed to standard error instead of an empty table.
    """
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows)
    else:
        click.echo(empty, err=True)


def print_table(rows: Sequence[OutputRow], title: str | None = None) -> None:
    """
    Print rows as a table without amounts in nano-dollars.

    If a terminal is too narrow for the table, each row is printed as in `print_record`, so that no
    value is wrapped or cut.
    """
    shown = [_without_nanousd(row) for row in rows]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column, value in shown[0].items():
        right = isinstance(value, int) and not isinstance(value, bool)
        table.add_column(
            column.replace("_", " "), justify="right" if right else "left", no_wrap=True
        )
    for row in shown:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console(highlight=False)
    width = console.width if console.is_terminal else _PIPE_WIDTH
    console.width = _PIPE_WIDTH
    if console.measure(table).maximum <= width:
        console.print(table)
        return
    heading = [] if title is None else [title]
    click.echo("\n\n".join([*heading, *map(record_text, shown)]) + "\n")


def _without_nanousd(row: OutputRow) -> OutputRow:
    # Tables show each amount once, in dollars; JSON and CSV have both forms.
    return {name: value for name, value in row.items() if not name.endswith("_nanousd")}


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
