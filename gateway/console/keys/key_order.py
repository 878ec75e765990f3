"""The order of the list of keys, and who made each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.console.keys.list_line import KeyLine
from gateway.console.web.page import Page

MADE_BY = "made"
_NEVER = 2**60
_COLUMNS: Mapping[str, Callable[[KeyLine], Any]] = {
    "name": lambda line: line.row.name.casefold(),
    "key": lambda line: line.row.last_four,
    "models": lambda line: (line.row.models is None, sorted(line.row.models or ())),
    "limits": lambda line: (line.limits == "", line.limits),
    "spent": lambda line: -line.activity.month_nanousd,
    "used": lambda line: -(line.activity.used_at or 0),
    "expires": lambda line: line.row.expires_at or _NEVER,
    "state": lambda line: line.state,
}
"""Amounts and times of use begin with the highest."""


def ordered(lines: Sequence[KeyLine], sort: str, makers: Mapping[str, str]) -> list[KeyLine]:
    """Return the lines by a column; by an unknown one as they are. `makers` is by key id."""
    if sort == MADE_BY:
        return sorted(lines, key=lambda line: makers[line.row.id].casefold())
    column = _COLUMNS.get(sort)
    return list(lines) if column is None else sorted(lines, key=column)


def is_column(sort: str) -> bool:
    """Return whether the list has such a column."""
    return sort == MADE_BY or sort in _COLUMNS


def maker(page: Page, names: Mapping[str, str], created_by: str | None) -> str:
    """
    Return who made a key, in words.

    Args:
        page: Whose language is used.
        names: Of the members of the account, by id.
        created_by: The actor; None if it was not recorded.
    """
    if created_by is None:
        return "\N{EN DASH}"
    kind, _, user_id = created_by.partition(":")
    if kind != "user":
        return page.text("the operator")
    return names.get(user_id) or page.text("a former member")
