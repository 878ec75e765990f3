"""Converts between a usage event's JSON and its row in SQL; finds values that SQL would reject."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.core.model import ABANDONED, USAGE_COLUMNS, AttemptRecord, CallRecord, Usage
from gateway.core.money import MAX_AMOUNT_NANOUSD
from gateway.store.sql.tables import USAGE_EVENTS

UsageRow = dict[str, str | int | bool | None]
"""Column name -> value."""

_DECODER = msgspec.json.Decoder(CallRecord)
_LARGEST = 2**63 - 1
_FREE_TEXT_LIMIT = 512
"""Characters of text whose length clients and upstreams choose."""
_FREE_TEXT = ("user_agent", "address", "finish_reason", "upstream_request_id")
_NUMBERS = tuple(c.name for c in USAGE_EVENTS.c if isinstance(c.type, sa.BigInteger))


def row_of(entry: bytes) -> UsageRow:
    """
    Return the row of one entry of the usage stream.

    Raises:
        ValueError: not a usage event, a number beyond 64 bits, or an impossible cost.
    """
    try:
        event = _DECODER.decode(entry)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a usage event: {error}") from error
    fields = msgspec.structs.asdict(event)
    del fields["usage"]
    fields["chain"] = msgspec.json.encode(event.chain).decode() if event.chain else None
    for name, column in USAGE_COLUMNS.items():
        fields[column] = getattr(event.usage, name)
    _check_numbers(fields)
    if b"\\u0000" in entry:  # PostgreSQL's text has no NUL
        fields.update({k: v.replace("\x00", "") for k, v in fields.items() if isinstance(v, str)})
    for name in _FREE_TEXT:
        if fields[name] is not None:
            fields[name] = fields[name][:_FREE_TEXT_LIMIT]
    return fields


def _check_numbers(fields: UsageRow) -> None:
    for name in _NUMBERS:
        if not -_LARGEST <= int(fields[name] or 0) <= _LARGEST:
            raise ValueError(f"{name} is beyond 64 bits")
    for name in ("cost_nanousd", "upstream_cost_nanousd"):
        if not 0 <= int(fields[name] or 0) <= MAX_AMOUNT_NANOUSD:
            raise ValueError(f"{name} is negative or beyond what one call can cost")


def is_provisional(row: UsageRow) -> bool:
    """Return whether a later event of the same call may supersede this one."""
    return row["outcome"] == ABANDONED


def supersedes(row: UsageRow, *, provisional: bool, cost_nanousd: int) -> bool:
    """
    Return whether a row replaces the booked row of its call.

    A settlement supersedes an abandoned call, a larger checkpoint a smaller one, and nothing
    supersedes a settlement. So the result does not depend on order and number of deliveries.
    """
    if not provisional:
        return False
    return not is_provisional(row) or int(row["cost_nanousd"] or 0) > cost_nanousd


def record_of(row: Any) -> CallRecord:
    """Return the record of a row of `usage_events`."""
    columns = dict(row._mapping)
    usage = {name: columns.pop(column) for name, column in USAGE_COLUMNS.items()}
    chain = columns.pop("chain")
    attempts = msgspec.json.decode(chain, type=tuple[AttemptRecord, ...]) if chain else ()
    return CallRecord(**columns, usage=Usage(**usage), chain=attempts)
