"""Accounts, keys, ledger entries, codes, limits and calls as JSON objects."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.core.limits import KeyLimits, Limits
from gateway.core.model import TOKEN_COLUMNS, USAGE_COLUMNS, CallRecord, Usage
from gateway.core.money import amount_fields
from gateway.core.routing.probes import Probe
from gateway.operations.values import show_time
from gateway.store.accounts.accounts import Account
from gateway.store.accounts.codes import Code
from gateway.store.accounts.credits import LedgerEntry
from gateway.store.announcements.incidents import Incident
from gateway.store.announcements.notices import Notice
from gateway.store.keys.repository import KeyRow
from gateway.store.usage.dead_letters import DeadLetter
from gateway.store.usage.reports import GroupBy, UsageLine

COUNT_LIMITS = ("rpm", "tpm", "concurrency")
BUDGETS = ("budget_day", "budget_month", "budget_total")
MARGIN_COLUMNS = (
    "upstream_cost",
    "upstream_cost_nanousd",
    "margin",
    "margin_nanousd",
    "calls_without_cost",
)


def pick(shown: Mapping[str, object], names: Iterable[str]) -> dict[str, object]:
    """Return the named fields of an object, in the order of `names`."""
    return {name: shown[name] for name in names}


def account_object(account: Account) -> dict[str, object]:
    """Return an account as operators see it."""
    return {
        "object": "account",
        "id": account.id,
        "name": account.name,
        "created_at": show_time(account.created_at),
        **balance_fields(account),
        "trusted": account.trusted,
        "limits": limits_object(account.limits),
        "version": account.version,
    }


def balance_fields(account: Account) -> dict[str, object]:
    """Return an account's balance and what it may spend."""
    return {
        "billing": account.terms.billing.value,
        **amount_fields("balance", account.balance_nanousd),
        **amount_fields("credit_limit", account.terms.credit_nanousd),
        **amount_fields("available", account.available_nanousd),
    }


def entry_object(entry: LedgerEntry) -> dict[str, object]:
    return {
        "object": "ledger_entry",
        "id": entry.id,
        "account_id": entry.account_id,
        "at_ms": entry.at_ms,
        "kind": entry.kind.value,
        **amount_fields("amount", entry.amount_nanousd),
        **amount_fields("balance_after", entry.balance_after_nanousd),
        "request_id": entry.request_id,
        "idempotency_key": entry.idempotency_key,
        "reason": entry.reason,
        "actor": entry.actor,
    }


def key_object(row: KeyRow) -> dict[str, object]:
    """Return a key as operators see it, without its secret."""
    return {
        "object": "key",
        "id": row.id,
        "account_id": row.account_id,
        "name": row.name,
        "shown": f"{row.prefix}...{row.last_four}",
        "state": row.state,
        "version": row.version,
        "created_at": show_time(row.created_at),
        "changed_at": show_time(row.changed_at),
        "expires_at": show_time(row.expires_at),
        "models": None if row.models is None else sorted(row.models),
        "limits": limits_object(row.limits or KeyLimits()),
    }


def code_object(code: Code) -> dict[str, object]:
    """Return a redemption code as operators see it, without the code itself."""
    return {
        "object": "code",
        "id": code.id,
        "ends_in": code.last_four,
        **amount_fields("amount", code.amount_nanousd),
        "state": code.state(time.time()),
        "note": code.note,
        "created_at": show_time(code.created_at),
        "created_by": code.created_by,
        "expires_at": show_time(code.expires_at),
        "redeemed_at": show_time(code.redeemed_at),
        "redeemed_by": code.redeemed_by,
    }


def limits_object(limits: Limits) -> dict[str, object]:
    """Return all limits; those that are not set are null."""
    shown: dict[str, object] = {name: getattr(limits, name) for name in COUNT_LIMITS}
    for name in BUDGETS:
        shown.update(amount_fields(name, getattr(limits, f"{name}_nanousd")))
    if isinstance(limits, KeyLimits):
        shown["models"] = {name: limits_object(each) for name, each in limits.models.items()}
    return shown


def call_object(event: CallRecord) -> dict[str, object]:
    """Return everything that is recorded about a call; for operators only."""
    fields = msgspec.structs.asdict(event)
    del fields["usage"], fields["cost_nanousd"], fields["upstream_cost_nanousd"]
    return {
        "object": "call",
        **fields,
        **usage_record(event.usage),
        **amount_fields("cost", event.cost_nanousd),
        **amount_fields("upstream_cost", event.upstream_cost_nanousd),
    }


def incident_object(incident: Incident) -> dict[str, object]:
    """Return an incident as the status page shows it."""
    return {
        "object": "incident",
        "id": incident.id,
        "title": incident.title,
        "models": list(incident.models),
        "state": incident.state.value,
        "began_at": show_time(incident.began_at),
        "resolved_at": show_time(incident.resolved_at),
        "updates": [
            {"at": show_time(each.at), "state": each.state.value, "text": each.text}
            for each in incident.updates
        ],
    }


def notice_object(notice: Notice) -> dict[str, object]:
    """Return a notice."""
    return {
        "object": "notice",
        "id": notice.id,
        "text": notice.text,
        "level": notice.level.value,
        "created_at": show_time(notice.created_at),
        "starts_at": show_time(notice.starts_at),
        "ends_at": show_time(notice.ends_at),
    }


def letter_object(letter: DeadLetter) -> dict[str, object]:
    """Return a usage event that was set aside."""
    event = letter.event
    return {
        "object": "dead_letter",
        "id": letter.id,
        "at": show_time(letter.at_ms // 1000),
        "reason": letter.reason,
        "request_id": None if event is None else event.request_id,
        "account_id": None if event is None else event.account_id,
        "model": None if event is None else event.model,
        **amount_fields("cost", 0 if event is None else event.cost_nanousd),
    }


def probe_object(probe: Probe) -> dict[str, object]:
    """Return what a probe found."""
    outcomes = probe.outcomes or ()
    return {
        "object": "probe",
        "deployment": probe.deployment,
        "accepted": any(each.accepted for each in outcomes),
        "credentials": [msgspec.to_builtins(each) for each in outcomes],
    }


def usage_record(usage: Usage) -> dict[str, int | str | None]:
    """Return everything that a call's cost was computed from."""
    return {column: getattr(usage, name) for name, column in USAGE_COLUMNS.items()}


def usage_columns(groups: Sequence[GroupBy]) -> list[str]:
    """Return the names of `usage_fields` in their order."""
    head = [*[group.value for group in groups], "calls", "failed"]
    return [*head, *TOKEN_COLUMNS.values(), "cost", "cost_nanousd"]


def usage_fields(groups: Sequence[GroupBy], line: UsageLine) -> dict[str, object]:
    """Return a line of a usage report."""
    return {
        **group_fields(groups, line),
        **{column: getattr(line.usage, name) for name, column in TOKEN_COLUMNS.items()},
        **amount_fields("cost", line.cost_nanousd),
    }


def group_fields(groups: Sequence[GroupBy], line: UsageLine) -> dict[str, object]:
    """Return the groups of a line of a usage report, and its calls."""
    names = zip(groups, line.groups, strict=True)
    return {
        **{group.value: name for group, name in names},
        "calls": line.calls,
        "failed": line.failed,
    }


def margin_fields(line: UsageLine) -> dict[str, object]:
    """Return the upstream cost and the margin of a line of a usage report."""
    return {
        **amount_fields("upstream_cost", line.upstream_cost_nanousd),
        **amount_fields("margin", line.margin_nanousd),
        "calls_without_cost": line.calls_without_cost,
    }
