"""Compares usage rows and charges of a fleet with what the upstream recorded."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa

from gateway.demo.record import Served
from gateway.settings import Settings, Sql
from gateway.store.sql.database import Database
from gateway.store.sql.tables import LEDGER_ENTRIES, USAGE_EVENTS
from tests.pods.fleet import INPUT_NANOUSD, OUTPUT_NANOUSD

ESTIMATED_PER_TOKEN = 1.5
"""Content is estimated by its bytes, of which a token of the demo upstream has 5.6 on average."""
WHOLE = ("completed", "drained")


class Row(msgspec.Struct, frozen=True):
    """What SQL holds of one call."""

    request_id: str
    upstream_request_id: str | None
    outcome: str
    input_tokens: int
    output_tokens: int
    cost_nanousd: int
    charged_nanousd: int
    charges: int


@dataclass
class Audit:
    """What is wrong with the rows of a period."""

    differences: list[str] = field(default_factory=list)


async def _read(url: str) -> list[Row]:
    database = Database(Settings(sql=Sql(url=url)))
    mine = LEDGER_ENTRIES.c.request_id == USAGE_EVENTS.c.request_id
    entries = sa.func.count().label("charges")
    total = sa.cast(-sa.func.sum(LEDGER_ENTRIES.c.amount_nanousd), sa.BigInteger)
    columns = [
        *(USAGE_EVENTS.c[name] for name in Row.__struct_fields__[:-2]),
        sa.select(sa.func.coalesce(total, 0)).where(mine).label("charged_nanousd"),
        sa.select(entries).where(mine).label("charges"),
    ]
    try:
        async with database.read() as connection:
            found = await connection.execute(sa.select(*columns))
            return [Row(**row) for row in found.mappings()]
    finally:
        await database.aclose()


def read_rows(url: str) -> list[Row]:
    """Return all calls that SQL holds, in a thread without a loop."""
    return asyncio.run(_read(url))


def compare(rows: list[Row], served: list[Served]) -> Audit:
    """
    Compare rows with the upstream's record of the same period.

    A whole call has one row with the upstream's usage, and is charged once by it. A call whose pod
    was killed is settled by another one, with no more than was sent; nothing else is charged.
    """
    audit = Audit()
    by_id = {each.id: each for each in served}
    seen: Counter[str | None] = Counter()
    for row in rows:
        if row.cost_nanousd or row.outcome in WHOLE:
            seen[row.upstream_request_id] += 1
        difference = _difference(row, by_id.get(row.upstream_request_id or ""))
        if difference is not None:
            audit.differences.append(f"{difference}: {row}")
    audit.differences += [
        f"{count} rows of one response: {name}"
        for name, count in seen.items()
        if count > 1 and name
    ]
    # A killed pod may not have reported yet which response it was reading.
    nameless = sum(row.outcome == "abandoned" and not row.upstream_request_id for row in rows)
    missing = [each for each in served if each.ending == "complete" and each.id not in seen]
    audit.differences += [f"served and not recorded: {each}" for each in missing[nameless:]]
    return audit


def _difference(row: Row, upstream: Served | None) -> str | None:
    price = row.input_tokens * INPUT_NANOUSD + row.output_tokens * OUTPUT_NANOUSD
    if row.charged_nanousd != row.cost_nanousd or row.charges > 1:
        return "charged otherwise than recorded"
    if row.outcome in WHOLE:
        reported = None if upstream is None else (upstream.input_tokens, upstream.output_tokens)
        is_right = reported == (row.input_tokens, row.output_tokens) and row.cost_nanousd == price
        return None if is_right else "not what the upstream reported"
    if upstream is None:
        return None if row.cost_nanousd <= price else "charged beyond its usage"
    most = math.ceil(upstream.tokens_sent * ESTIMATED_PER_TOKEN)
    return None if row.output_tokens <= most else "charged more than was sent"
