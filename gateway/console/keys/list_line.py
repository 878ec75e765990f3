"""A key as a row of the list shows it."""

from __future__ import annotations

from collections.abc import Callable

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


def key_line(
    row: KeyRow, activity: KeyActivity, now: float, text: Callable[[str], str] = str
) -> KeyLine:
    """Return a key as a row of the list. `text` translates."""
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
        limits=limits_in_words(limits, text),
        share=max(shares, default=None),
        expires_soon=soon,
    )


def limits_in_words(limits: KeyLimits, text: Callable[[str], str] = str) -> str:
    """Return limits as `60 requests/min, $5.00 a day`; "" if there are none. `text` translates."""
    counts = (
        (limits.rpm, text("%(num)s requests/min")),
        (limits.tpm, text("%(num)s tokens/min")),
        (limits.concurrency, text("%(num)s at once")),
        (len(limits.models) or None, text("%(num)s by model")),
    )
    budgets = (
        (limits.budget_day_nanousd, text("%(num)s a day")),
        (limits.budget_month_nanousd, text("%(num)s a month")),
        (limits.budget_total_nanousd, text("%(num)s in all")),
    )
    words = [words % {"num": f"{value:,}"} for value, words in counts if value is not None]
    words += [words % {"num": money(value)} for value, words in budgets if value is not None]
    return ", ".join(words)
