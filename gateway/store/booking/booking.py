"""
Books a batch of calls: their usage rows, sums, charges and balances, in one transaction.

Each call is booked exactly once, regardless of the number and order of deliveries. A call is booked
if its usage row is new and the ledger has no entry of it. After that only an event that supersedes
the booked one (see `rows.supersedes`) is booked: the usage row is replaced, and a `correction` in
the ledger changes the balance by the difference.

The ledger keeps a call's charge, and whether it was provisional, forever, even after the usage row
has been purged. It has no entry of calls that cost nothing, nor of a settlement that cost the same
as the abandoned call.

Each charged call has its own ledger entry. One sum per batch would be smaller, but its parts could
not be verified after the usage rows are purged, and a call delivered later would be charged twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from gateway.core.calendar import DAY_MS
from gateway.core.model import ABANDONED
from gateway.core.money import MIN_BALANCE_NANOUSD
from gateway.store.accounts.credits import EntryKind, position_of
from gateway.store.accounts.snapshot import Position
from gateway.store.booking.rows import UsageRow, is_provisional, supersedes
from gateway.store.sql.statements import (
    Rows,
    Step,
    Steps,
    delete,
    insert,
    insert_new,
    insert_or_add,
    select,
    update,
)
from gateway.store.sql.tables import ACCOUNTS, LEDGER_ENTRIES, SPEND, USAGE_EVENTS
from gateway.store.usage_sums.quarters import BookedRow, add_to_quarters

ACTOR = "gateway"
DIRECT_ACTOR = "gateway-direct"
"""Of charges that were booked without Redis, whose sums lack them."""


class _Charge(NamedTuple):
    """A new ledger entry, by its columns."""

    account_id: str
    at_ms: int
    kind: str
    amount_nanousd: int
    balance_after_nanousd: int
    request_id: str
    actor: str
    provisional: bool
    revision: int


class _BookedEntry(NamedTuple):
    """A ledger entry of a call, as far as it is read."""

    request_id: str
    account_id: str
    kind: str
    amount_nanousd: int
    provisional: bool
    revision: int


_COLUMNS = tuple(column.name for column in USAGE_EVENTS.c)
_SPEND_COLUMNS = tuple(column.name for column in SPEND.c)
_values_of = itemgetter(*_COLUMNS)

_ADD_ROWS = insert_new(USAGE_EVENTS, _COLUMNS, "request_id")
_LOCK_ROWS = select(
    sa.select(USAGE_EVENTS), USAGE_EVENTS.c.request_id, order=USAGE_EVENTS.c.request_id, lock=True
)
_UPDATE_ROWS = update(USAGE_EVENTS, _COLUMNS, "request_id")
_DELETE_ROWS = delete(USAGE_EVENTS, "request_id")
_ENTRIES_OF_CALLS = select(
    sa.select(*[LEDGER_ENTRIES.c[name] for name in _BookedEntry._fields]),
    LEDGER_ENTRIES.c.request_id,
    order=LEDGER_ENTRIES.c.id,
)
_LOCK_BALANCES = select(
    sa.select(ACCOUNTS.c.id, ACCOUNTS.c.balance_nanousd),
    ACCOUNTS.c.id,
    order=ACCOUNTS.c.id,
    lock=True,
)
_SET_BALANCES = update(ACCOUNTS, ("id", "balance_nanousd"), "id")
_POSITIONS = select(
    sa.select(ACCOUNTS.c.id, position_of(ACCOUNTS), ACCOUNTS.c.balance_nanousd),
    ACCOUNTS.c.id,
    order=ACCOUNTS.c.id,
)
_ADD_ENTRIES = insert(LEDGER_ENTRIES, _Charge._fields)
_ADD_SPEND = insert_or_add(SPEND, _SPEND_COLUMNS, ("cost_nanousd",))


class ChargeRefusedError(Exception):
    """A call cannot be charged, for the permanent reason in the message."""


class BookedBatch(msgspec.Struct, frozen=True):
    new: frozenset[str]
    """Request ids with new rows."""
    charged_nanousd: int
    """Including corrections."""
    positions: Mapping[str, Position]
    """The new balance of each account with a priced or correcting call in the batch."""
    late: Mapping[str, int] = {}
    """Request ids of calls booked as abandoned before -> the difference charged now."""
    closed: frozenset[str] = frozenset()
    """Request ids of late settlements that were not booked, since their calls were refunded."""


class _Charged(msgspec.Struct, frozen=True):
    """The ledger's entries of one call, summed."""

    account_id: str
    cost_nanousd: int
    provisional: bool
    revision: int
    refunded: bool


class _Change(msgspec.Struct, frozen=True):
    """One call to be booked, and what was booked of it before."""

    row: UsageRow
    before: UsageRow | None
    """Its usage row."""
    known: _Charged | None

    @property
    def due_nanousd(self) -> int:
        """The amount still to be charged; negative: credited back."""
        return _cost(self.row) - (self.known.cost_nanousd if self.known else 0)


def book(rows: Sequence[UsageRow], actor: str = ACTOR) -> Steps[BookedBatch]:
    """
    Return the steps of a transaction that books the new ones of `rows`, in the name of `actor`.

    Of rows with the same request id, the one that supersedes the others counts, or the first.

    Raises:
        ChargeRefusedError: a charged account does not exist, or its balance would be out of bounds.
    """
    # Ordered, so that two writers with the same calls do not deadlock.
    ordered = _strongest(rows)
    inserted = yield Step(_ADD_ROWS, [_values_of(row) for row in ordered])
    new = frozenset(request_id for (request_id,) in inserted)
    before = yield from _lock_rows([_id(row) for row in ordered if _id(row) not in new])
    accounts = sorted({str(row["account_id"]) for row in ordered})
    balances: dict[str, int] = dict((yield Step(_LOCK_BALANCES, accounts)))
    # Read after locking, so that charges of other writers are visible.
    known = _sum_up((yield Step(_ENTRIES_OF_CALLS, [_id(row) for row in ordered])))
    due, closed, stray = _classify(ordered, new, before, known)
    if stray:
        yield Step(_DELETE_ROWS, stray)
    yield from _charge([each for each in due if each.due_nanousd], balances, actor)
    late = {_id(each.row): each.due_nanousd for each in due if each.before or each.known}
    replaced = [_values_of(each.row) for each in due if each.before]
    if replaced:
        yield Step(_UPDATE_ROWS, replaced)
    yield from add_to_quarters(
        BookedRow(e.row, e.before, e.known is not None, e.due_nanousd) for e in due
    )
    moved = {str(each.row["account_id"]) for each in due if each.due_nanousd}
    costly = {str(row["account_id"]) for row in rows if row["cost_nanousd"]}
    return BookedBatch(
        new - frozenset(stray),
        sum(each.due_nanousd for each in due),
        (yield from _positions(sorted(costly | moved))),
        late,
        closed,
    )


def _charge(due: list[_Change], balances: dict[str, int], actor: str) -> Steps[None]:
    """Charge calls to accounts whose rows are locked."""
    if not due:
        return
    yield Step(_ADD_ENTRIES, _entries(due, balances, actor))
    moved = sorted({str(each.row["account_id"]) for each in due})
    yield Step(_SET_BALANCES, [(name, balances[name]) for name in moved])
    yield Step(_ADD_SPEND, _spend(due))


def _strongest(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """Return one row per call, ordered by request id."""
    found: dict[str, UsageRow] = {}
    for row in rows:
        held = found.setdefault(_id(row), row)
        if supersedes(row, provisional=is_provisional(held), cost_nanousd=_cost(held)):
            found[_id(row)] = row
    return [found[request_id] for request_id in sorted(found)]


def _classify(
    rows: Iterable[UsageRow],
    new: frozenset[str],
    before: Mapping[str, UsageRow],
    known: Mapping[str, _Charged],
) -> tuple[list[_Change], frozenset[str], list[str]]:
    """
    Return the changes to book, the calls that are closed, and the new rows to delete again.

    The last are rows of calls whose row was purged and whose booked cost differs.
    """
    due: list[_Change] = []
    closed: set[str] = set()
    stray: list[str] = []
    for row in rows:
        request_id = _id(row)
        held, entry = before.get(request_id), known.get(request_id)
        if held is None and entry is None:
            due.append(_Change(row, None, None))
            continue
        provisional = entry.provisional if entry else False
        if held is not None:
            provisional = is_provisional(held)
        cost = entry.cost_nanousd if entry else 0
        owner = entry.account_id if entry else held and held["account_id"]
        is_later = supersedes(row, provisional=provisional, cost_nanousd=cost)
        if is_later and owner == row["account_id"]:
            if entry is None or not entry.refunded:
                due.append(_Change(row, held, entry))
                continue
            closed.add(request_id)
        if request_id in new and cost != _cost(row):
            stray.append(request_id)
    return due, frozenset(closed), stray


def _lock_rows(request_ids: Sequence[str]) -> Steps[dict[str, UsageRow]]:
    """Return the usage rows of calls that have one, locked."""
    if not request_ids:
        return {}
    found = yield Step(_LOCK_ROWS, request_ids)
    rows = [dict(zip(_COLUMNS, values, strict=True)) for values in found]
    return {_id(row): row for row in rows}


def _sum_up(entries: Rows) -> dict[str, _Charged]:
    """Return the charges of calls that have ledger entries."""
    grouped: dict[str, list[_BookedEntry]] = {}
    for values in entries:
        entry = _BookedEntry(*values)
        grouped.setdefault(entry.request_id, []).append(entry)
    known: dict[str, _Charged] = {}
    for request_id, of_call in grouped.items():
        charges = [each for each in of_call if each.kind != EntryKind.REFUND.value]
        known[request_id] = _Charged(
            account_id=of_call[0].account_id,
            cost_nanousd=-sum(each.amount_nanousd for each in charges),
            provisional=bool(charges[-1].provisional),
            revision=charges[-1].revision,
            refunded=len(charges) < len(of_call),
        )
    return known


def _positions(accounts: list[str]) -> Steps[dict[str, Position]]:
    if not accounts:
        return {}
    found = yield Step(_POSITIONS, accounts)
    return {account_id: Position(position, balance) for account_id, position, balance in found}


def _entries(due: Iterable[_Change], balances: dict[str, int], actor: str) -> list[_Charge]:
    """Return the entries in order, and update `balances`."""
    at_ms = time.time_ns() // 1_000_000
    entries: list[_Charge] = []
    for each in due:
        account_id = str(each.row["account_id"])
        if account_id not in balances:
            raise ChargeRefusedError(f"there is no account {account_id} to charge")
        balances[account_id] -= each.due_nanousd
        if balances[account_id] < MIN_BALANCE_NANOUSD:
            raise ChargeRefusedError(f"the balance of {account_id} is at its lower bound")
        kind = EntryKind.CORRECTION if each.known else EntryKind.CHARGE
        entries.append(
            _Charge(
                account_id=account_id,
                at_ms=at_ms,
                kind=kind.value,
                amount_nanousd=-each.due_nanousd,
                balance_after_nanousd=balances[account_id],
                request_id=_id(each.row),
                actor=actor,
                provisional=each.row["outcome"] == ABANDONED,
                revision=each.known.revision + 1 if each.known else 0,
            )
        )
    return entries


def _spend(due: Iterable[_Change]) -> list[tuple[str | int, ...]]:
    """
    Return the charges summed by account, day, key and model, in that order.

    A correction subtracts the booked cost from the sums of the row that it supersedes, so that the
    sums match the usage rows. If that row was purged, its day is unknown: then the difference
    counts for the day of the late settlement.
    """
    sums: dict[tuple[str, int, str, str], int] = {}
    for each in due:
        if each.before is not None and each.known is not None:
            group = _group(each.before)
            sums[group] = sums.get(group, 0) - each.known.cost_nanousd
            group, cost = _group(each.row), _cost(each.row)
        else:
            group, cost = _group(each.row), each.due_nanousd
        sums[group] = sums.get(group, 0) + cost
    return [(*group, sums[group]) for group in sorted(sums)]


def _group(row: UsageRow) -> tuple[str, int, str, str]:
    day = int(row["at_ms"] or 0) // DAY_MS
    return str(row["account_id"]), day, str(row["key_id"]), str(row["model"])


def _id(row: UsageRow) -> str:
    return str(row["request_id"])


def _cost(row: UsageRow) -> int:
    return int(row["cost_nanousd"] or 0)
