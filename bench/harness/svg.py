"""
Charts as SVG: groups of horizontal bars, or of ranges, over a logarithmic axis.

Written by hand because a chart of rows needs rectangles, lines and text only; a plotting library
would be the largest development dependency, and its output differs between versions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 860
LEFT: Final = 130
"""Where the axis begins."""
RIGHT: Final = 90
"""What is left for the value beside the longest bar."""
ROW: Final = 18
HEAD: Final = 26
TOP: Final = 64
INK, GREY, LINE = "#1f2328", "#59636e", "#d1d9e0"


@dataclass(frozen=True)
class Row:
    """One bar up to `value`, or a range from `value` to `high`; both are positive."""

    label: str
    value: float
    colour: str
    high: float | None = None

    def shown(self) -> str:
        """Return its figures."""
        return number(self.value) + (f" / {number(self.high)}" if self.high is not None else "")


@dataclass(frozen=True)
class Group:
    """Rows under a heading."""

    title: str
    rows: Sequence[Row]


class Axis:
    """A logarithmic axis over whole decades."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)

    def x(self, value: float) -> float:
        """Return the place of a value."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def ticks(self) -> list[float]:
        """Return the decades."""
        return [10.0**power for power in range(self.low, self.high + 1)]


def number(value: float) -> str:
    """Return a value with about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def chart(title: str, unit: str, groups: Sequence[Group]) -> str:
    """
    Return a chart.

    Args:
        unit: Of the axis, with what it shows.

    Raises:
        ValueError: A value is not positive, or there are no rows.
    """
    rows = [row for group in groups for row in group.rows]
    values = [value for row in rows for value in (row.value, row.high) if value is not None]
    if not values or min(values) <= 0:
        raise ValueError(f"{title}: a logarithmic axis needs values above zero")
    axis = Axis(values)
    height = TOP + sum(HEAD + ROW * len(group.rows) for group in groups) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 24, title, size=15, weight="bold"),
        *_grid(axis, unit, height),
        *_body(axis, groups),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _grid(axis: Axis, unit: str, height: int) -> Iterator[str]:
    yield _text(16, 46, unit, colour=GREY)
    for tick in axis.ticks():
        x = axis.x(tick)
        yield f'<line x1="{x}" x2="{x}" y1="{TOP - 6}" y2="{height - 10}" stroke="{LINE}"/>'
        yield _text(x, TOP - 10, f"{tick:,.10g}", colour=GREY, anchor="middle")


def _body(axis: Axis, groups: Sequence[Group]) -> Iterator[str]:
    y = TOP
    start = axis.x(10.0**axis.low)
    for group in groups:
        yield _text(16, y + 18, group.title, weight="bold")
        y += HEAD
        for row in group.rows:
            middle = y + ROW // 2
            yield _text(LEFT - 8, middle + 4, row.label, anchor="end")
            end = axis.x(row.value if row.high is None else row.high)
            if row.high is None:
                width = round(max(end - start, 1), 1)
                yield (
                    f'<rect x="{start}" y="{y + 3}" width="{width}" height="{ROW - 6}" '
                    f'fill="{row.colour}"/>'
                )
            else:
                yield from _range(axis.x(row.value), end, middle, row.colour)
            yield _text(max(end, start) + 8, middle + 4, row.shown(), colour=GREY)
            y += ROW


def _range(low: float, high: float, y: int, colour: str) -> Iterator[str]:
    yield f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>'
    yield f'<circle cx="{low}" cy="{y}" r="5" fill="{colour}"/>'
    yield f'<circle cx="{high}" cy="{y}" r="5" fill="#ffffff" stroke="{colour}" stroke-width="2"/>'


def _text(
    x: float, y: float, text: str, *, size: int = 12, weight: str = "normal", colour: str = INK,
    anchor: str = "start",
) -> str:  # fmt: skip
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
