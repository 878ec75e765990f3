"""
Plots as SVG.

All coordinates are percentages of an `svg` without `viewBox`, so plots stretch while their
text does not. Colours come from CSS classes. A table of the same numbers belongs beside each plot.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

_GAP = 0.28
"""The share of a bar's width that is the gap."""
_WIDEST = 4.0
"""The most per cent of a bar, so that few bars do not become blocks."""
_TICKS = 5
_LABEL_PLACES = 8
_LONG_TICK = 7
"""Characters for which the usual room beside the plot suffices."""


class Bar(NamedTuple):
    """One place on the x axis."""

    label: str
    """Below the axis; `""`: none."""
    title: str
    """In the tooltip."""
    href: str = ""
    """The calls of this bar."""


class Series(NamedTuple):
    """Numbers of one colour; None: there is no number for this bar."""

    name: str
    color: int
    """1 to 8."""
    values: Sequence[float | None]


_SMALLEST = 1e-300
"""Below, powers of ten underflow."""


class Axis(NamedTuple):
    """A y axis."""

    top: float
    ticks: Sequence[float]


def axis(highest: float) -> Axis:
    """Return an axis from 0 with at most six ticks at 1, 2 or 5 times a power of ten."""
    if highest < _SMALLEST or not math.isfinite(highest):
        return Axis(1.0, (0.0,))
    rough = highest / _TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(
        factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * 0.999999
    )
    count = math.ceil(highest / step * 0.999999)
    return Axis(step * count, tuple(step * n for n in range(count + 1)))


def stacked_bars(
    bars: Sequence[Bar], series: Sequence[Series], label: str, show: Callable[[float], str]
) -> Markup:
    """
    Return bars whose parts are stacked in the order of `series`, from the bottom.

    Args:
        bars: The places on the x axis.
        series: One value for each bar, not negative.
        label: The message of the plot, for readers that do not see it.
        show: A value as text, for ticks and tooltips.
    """
    totals = [sum(each.values[n] or 0 for each in series) for n in range(len(bars))]
    scale = axis(max(totals, default=0))
    place = 100 / max(len(bars), 1)
    width = min(place * (1 - _GAP), _WIDEST)
    parts: list[str] = []
    for n, bar in enumerate(bars):
        left = n * place + (place - width) / 2
        bottom = 0.0
        drawn: list[str] = []
        for each in series:
            value = each.values[n] or 0
            if value > 0:
                height = 100 * value / scale.top
                top = 100 - bottom - height
                drawn.append(
                    f'<rect class="s{each.color}" x="{left:.2f}%" y="{top:.2f}%" '
                    f'width="{width:.2f}%" height="{height:.2f}%"/>'
                )
                bottom += height
        shown = [(each.name, each.values[n]) for each in series]
        parts.append(_place(n, place, bar, "".join(drawn), _lines(shown, show)))
    return _figure(bars, scale, "".join(parts), label, show)


def lines(
    bars: Sequence[Bar], series: Sequence[Series], label: str, show: Callable[[float], str]
) -> Markup:
    """Return one line per series, interrupted where there is no number."""
    scale = axis(max((v for each in series for v in each.values if v is not None), default=0))
    place = 100 / max(len(bars), 1)
    drawn: list[str] = []
    for each in series:
        points = [
            None if value is None else (n * place + place / 2, 100 - 100 * value / scale.top)
            for n, value in enumerate(each.values)
        ]
        for start, end in itertools.pairwise(points):
            if start is not None and end is not None:
                drawn.append(
                    f'<line class="s{each.color}" x1="{start[0]:.2f}%" y1="{start[1]:.2f}%" '
                    f'x2="{end[0]:.2f}%" y2="{end[1]:.2f}%"/>'
                )
        drawn += [
            f'<circle class="s{each.color}" cx="{point[0]:.2f}%" cy="{point[1]:.2f}%" r="2.5"/>'
            for point in points
            if point is not None
        ]
    places = [
        _place(n, place, bar, "", _lines([(each.name, each.values[n]) for each in series], show))
        for n, bar in enumerate(bars)
    ]
    return _figure(bars, scale, "".join([*drawn, *places]), label, show)


def share_bar(parts: Sequence[tuple[str, int, float]], label: str) -> Markup:
    """Return one horizontal bar of (name, colour, value) parts, each as wide as its share."""
    total = sum(value for _, _, value in parts)
    left = 0.0
    drawn: list[str] = []
    for name, color, value in parts:
        width = 100 * value / total if total else 0
        if width > 0:
            drawn.append(
                f'<rect class="s{color}" x="{left:.2f}%" width="{width:.2f}%" height="100%">'
                f"<title>{escape(name)}</title></rect>"
            )
            left += width
    return Markup(  # noqa: S704 -- numbers and escaped text only
        f'<svg class="share-bar" role="img" aria-label="{escape(label)}">{"".join(drawn)}</svg>'
    )


def _lines(values: Sequence[tuple[str, float | None]], show: Callable[[float], str]) -> list[str]:
    """Return the lines of a tooltip: the parts that are not 0, the uppermost first."""
    return [f"{name}: {show(value)}" for name, value in reversed(values) if value]


def _place(n: int, place: float, bar: Bar, drawn: str, values: list[str]) -> str:
    """Return the parts of one bar, below a rectangle that takes the pointer over all its height."""
    title = escape("\n".join([bar.title, *values]))
    hit = (
        f'<rect class="hit" x="{n * place:.2f}%" y="0" width="{place:.2f}%" height="100%">'
        f"<title>{title}</title></rect>"
    )
    # Not a link, which has no place in an image: a script opens it, and the table beside has it.
    target = f' data-href="{escape(bar.href)}"' if bar.href else ""
    return f"<g{target}>{drawn}{hit}</g>"


def _figure(
    bars: Sequence[Bar],
    scale: Axis,
    drawn: str,
    label: str,
    show: Callable[[float], str],
) -> Markup:
    levels = [(100 - 100 * tick / scale.top, show(tick)) for tick in scale.ticks]
    ticks = "".join(
        f'<text x="100%" y="{level:.2f}%" dy="4">{escape(text)}</text>' for level, text in levels
    )
    grid = "".join(
        f'<line class="grid" x1="0" x2="100%" y1="{level:.2f}%" y2="{level:.2f}%"/>'
        for level, _ in levels
    )
    width = " wide" if max(len(text) for _, text in levels) > _LONG_TICK else ""
    place = 100 / max(len(bars), 1)
    names = "".join(
        f'<text x="{(n + 0.5) * place:.2f}%" y="12">{escape(bars[n].label)}</text>'
        for n in _labelled(len(bars))
        if bars[n].label
    )
    return Markup(  # noqa: S704 -- numbers and escaped text only
        f'<div class="plot{width}" role="img" aria-label="{escape(label)}">'
        f'<svg class="y-axis" aria-hidden="true">{ticks}</svg>'
        f'<svg class="area" aria-hidden="true">{grid}{drawn}</svg>'
        f'<svg class="x-axis" aria-hidden="true">{names}</svg></div>'
    )


def _labelled(count: int) -> list[int]:
    """Return the bars with a label: all of a few, else evenly spaced ones that fit side by side."""
    every = max(1, math.ceil(count / _LABEL_PLACES))
    return list(range(every // 2 if every > 1 else 0, count, every))
