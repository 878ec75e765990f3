"""A key as a row of the list shows it."""

from __future__ import annotations

import msgspec

from gateway.console.web.words import money
from gateway.core.limits import KeyLimits
from gateway.store.keys.activity import KeyActivity
from gateway.store.keys.repository import KeyRow

_SOON_S = 7 * 86_400


class KeyLine(msgspec.Struct, frozen=True):
    """A key as a row of the list shows it."""

    row: KeyRow
    activity: KeyActivity
    state: str
    limits: str
    """As `limits_in_words` returns them."""
    share: float | None
    """Spent share of the budget that is closest to its end; None if there is no budget."""
    expires_soon: bool


def key_line(row: KeyRow, activity: KeyActivity, now: float) -> KeyLine:
    """Return a key as a row of the list."""
    expired = row.expires_at is not None and row.expires_at <= now
    soon = row.expires_at is not None and not expired and row.expires_at - now < _SOON_S
    limits = row.limits or KeyLimits()
    spent = (
        (limits.budget_day_nanousd, activity.day_nanousd),
        (limits.budget_month_nanousd, activity.month_nanousd),
        (limits.budget_total_nanousd, activity.total_nanousd),
    )
    shares = [used / most if most else 1.0 for most, used in spent if most is not None]
    return KeyLine(
        row=row,
        activity=activity,
        state="expired" if expired and row.state == "active" else row.state,
        limits=limits_in_words(limits),
        share=max(shares, default=None),
        expires_soon=soon,
    )


def limits_in_words(limits: KeyLimits) -> str:
    """Return limits as `60 rpm, $5.00 a day`; "" if there are none."""
    words = [
        f"{value:,} {unit}"
        for value, unit in (
            (limits.rpm, "rpm"),
            (limits.tpm, "tpm"),
            (limits.concurrency, "at once"),
        )
        if value is not None
    ]
    words += [
        f"{money(amount)} {span}"
        for amount, span in (
            (limits.budget_day_nanousd, "a day"),
            (limits.budget_month_nanousd, "a month"),
            (limits.budget_total_nanousd, "in all"),
        )
        if amount is not None
    ]
    if limits.models:
        words.append(f"{len(limits.models)} by model")
    return ", ".join(words)
