"""Amounts as tiles, axes and durations show them: rounded, with a unit."""

from __future__ import annotations

from gateway.core.money import NANOUSD_PER_USD

_NARROW = "\N{NARROW NO-BREAK SPACE}"
_UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_MINUTE_MS, _HOUR_MS = 60_000, 3_600_000
_WHOLE = 1000
"""Numbers below are shown in full, and dollars from here without cents."""


def compact(value: float) -> str:
    """Return a number with three digits at most: `812 M`, `1.24 k`, `34`."""
    for size, unit in _UNITS:
        # What would round up to 1,000 of a unit is 1 of the next.
        if abs(value) >= size * 0.9995:
            return f"{_three_digits(value / size)}{_NARROW}{unit}"
    return _three_digits(value)


def rounded_money(nanousd: int) -> str:
    """Return dollars for tiles and axes: `$486.21`, `$0.0183`, `$1,240`."""
    sign = "\N{MINUS SIGN}" if nanousd < 0 else ""
    usd = abs(nanousd) / NANOUSD_PER_USD
    if usd == 0:
        return "$0"
    if usd < 0.995:  # below, cents say too little
        decimals = 2
        while usd * 10**decimals < 100 and decimals < 9:
            decimals += 1
        text = f"{usd:.{decimals}f}".rstrip("0")
        return f"{sign}${text if len(text) >= len('0.00') else f'{usd:.2f}'}"
    return f"{sign}${usd:,.2f}" if usd < _WHOLE * 10 else f"{sign}${usd:,.0f}"


def duration(ms: int | None) -> str:
    """Return a time: `0.86 s`, `40.9 s`, `3 min 20 s`, `2 h 5 min`; a dash if there is none."""
    if ms is None:
        return "\N{EN DASH}"
    seconds = ms / 1000
    if ms < 9_995:
        return f"{seconds:.2f}{_NARROW}s"
    if ms < _MINUTE_MS - 50:
        return f"{seconds:.1f}{_NARROW}s"
    if ms < _HOUR_MS - 500:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}{_NARROW}min {rest}{_NARROW}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}{_NARROW}h {minutes}{_NARROW}min"


def percent(part: float, whole: float) -> str:
    """Return a share: `71 %`, `0.4 %`, `< 0.1 %`; a dash if there is no whole."""
    if whole == 0:
        return "\N{EN DASH}"
    share = 100 * part / whole
    if share == 0 or share >= 99.95:
        return f"{share:.0f}{_NARROW}%"
    if share < 0.1:
        return f"<{_NARROW}0.1{_NARROW}%"
    # Less than the whole is never shown as 100 %.
    return f"{share:.1f}{_NARROW}%" if share < 10 or share > 99 else f"{share:.0f}{_NARROW}%"


def tokens_per_s(output_tokens: int, ttft_ms: int | None, duration_ms: int) -> float | None:
    """Return how fast a response was generated after its first token; None if it is unknown."""
    if ttft_ms is None or duration_ms <= ttft_ms or output_tokens <= 1:
        return None
    return output_tokens * 1000 / (duration_ms - ttft_ms)


def _three_digits(value: float) -> str:
    if value == int(value):
        return f"{value:.0f}"
    size = abs(value)
    decimals = 2 if size < 9.995 else 1 if size < 99.95 else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
