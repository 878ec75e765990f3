"""Plots by value."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.console.reporting.amounts import rounded_money
from gateway.console.reporting.plots import (
    Axis,
    Bar,
    Series,
    axis,
    lines,
    share_bar,
    stacked_bars,
)

BARS = [Bar("Nov 1", "Sunday, Nov 1", "/app/requests?since=2026-11-01"), Bar("Nov 2", "Monday")]


def show(value: float) -> str:
    """Return dollars."""
    return f"${value:g}"


def shown_money(value: float) -> str:
    """Return dollars as pages show them."""
    return rounded_money(round(value * 10**9))


def parts(svg: str, tag: str) -> list[dict[str, str]]:
    """Return the attributes of all elements of a kind."""
    return [dict(each.attrib) for each in ElementTree.fromstring(svg).iter(tag)]


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (0, [0]), (1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3.2, [0, 1, 2, 3, 4]),
        (42, [0, 10, 20, 30, 40, 50]),
        (40, [0, 10, 20, 30, 40]), (0.00019, [0, 0.00005, 0.0001, 0.00015, 0.0002]),
    ],
)  # fmt: skip
def test_axis_has_round_ticks(highest: float, ticks: list[float]) -> None:
    """The last is at or above the highest value."""
    found = axis(highest)

    assert found.ticks == pytest.approx(ticks)
    assert found.top == pytest.approx(ticks[-1] or 1)


@given(st.floats(1e-9, 1e15))
def test_axis_holds_every_value_with_few_ticks(highest: float) -> None:
    """Whatever the size of the values."""
    found = axis(highest)

    assert isinstance(found, Axis)
    assert found.top >= highest * 0.999999
    assert 2 <= len(found.ticks) <= 6


def test_stacked_bars_stand_on_each_other() -> None:
    """Heights are shares of the axis, in the order of the series, from the bottom."""
    series = [Series("a", 1, [3, 1]), Series("b", 2, [1, 0])]

    svg = stacked_bars(BARS, series, "Spend by day", show)

    drawn = [each for each in parts(svg, "rect") if each["class"] != "hit"]
    assert [(e["class"], e["x"], e["y"], e["height"]) for e in drawn] == [
        ("s1", "23.00%", "25.00%", "75.00%"),
        ("s2", "23.00%", "0.00%", "25.00%"),
        ("s1", "73.00%", "75.00%", "25.00%"),
    ]
    assert {each["width"] for each in drawn} == {"4.00%"}


def test_tooltip_names_the_parts_from_the_top_and_the_bar_links_to_its_calls() -> None:
    """Parts of nothing are left out."""
    series = [Series("a", 1, [3, 1]), Series("b", 2, [1, 0])]

    svg = stacked_bars(BARS, series, "Spend by day", show)

    root = ElementTree.fromstring(svg)
    assert [each.text for each in root.iter("title")] == [
        "Sunday, Nov 1\nb: $1\na: $3",
        "Monday\na: $1",
    ]
    assert [each.get("data-href") for each in parts(svg, "g")] == [
        "/app/requests?since=2026-11-01",
        None,
    ]
    assert root.get("aria-label") == "Spend by day"


def test_names_from_clients_are_escaped() -> None:
    """A model's name cannot end its element."""
    evil = '</title><script>alert("1")</script>'

    svg = stacked_bars([Bar(evil, evil, evil)], [Series(evil, 1, [1])], evil, show)
    also = share_bar([(evil, 1, 2)], evil)

    assert "<script" not in svg + also
    assert ElementTree.fromstring(svg).get("aria-label") == evil


def test_lines_are_interrupted_where_there_is_no_number() -> None:
    """Two segments of four points, one alone."""
    bars = [Bar(str(n), str(n)) for n in range(5)]

    svg = lines(bars, [Series("p95", 3, [1.0, 2.0, None, 4.0, 4.0])], "p95", show)

    drawn = [each for each in parts(svg, "line") if each["class"] == "s3"]
    assert [(e["x1"], e["y1"], e["x2"], e["y2"]) for e in drawn] == [
        ("10.00%", "75.00%", "30.00%", "50.00%"),
        ("70.00%", "0.00%", "90.00%", "0.00%"),
    ]
    assert len(parts(svg, "circle")) == 4


def test_plot_of_nothing_has_an_axis_and_no_bars() -> None:
    """An empty period is a plot, too."""
    svg = stacked_bars(BARS, [], "No spend", show)

    assert [each for each in parts(svg, "rect") if each["class"] != "hit"] == []
    assert "$0" in svg


@pytest.mark.parametrize(("highest", "is_wide"), [(0.5, False), (0.0005, False), (0.00005, True)])
def test_long_amounts_have_room_beside_the_plot(highest: float, is_wide: bool) -> None:
    """Those of the first calls of an account have nine decimals."""
    for draw in (stacked_bars, lines):
        svg = draw(BARS, [Series("m", 1, [highest, 0])], "Spend", shown_money)
        assert ('class="plot wide"' in svg) is is_wide


def test_many_bars_have_few_labels() -> None:
    """Labels stand side by side on a narrow screen."""
    bars = [Bar(f"d{n}", f"d{n}") for n in range(92)]

    svg = stacked_bars(bars, [Series("a", 1, [1] * 92)], "x", show)

    assert len(re.findall(r">d\d+</text>", svg)) <= 8


def test_share_bar_fills_its_width() -> None:
    """Parts of nothing are not drawn."""
    svg = share_bar([("queue", 8, 0), ("first token", 2, 250), ("stream", 1, 750)], "Time")

    assert [(e["x"], e["width"]) for e in parts(svg, "rect")] == [
        ("0.00%", "25.00%"),
        ("25.00%", "75.00%"),
    ]


@given(st.lists(st.lists(st.floats(0, 1e12), min_size=3, max_size=3), max_size=6))
@example([[0.0, 0.0, 5e-324]])
def test_no_bar_leaves_the_plot(values: list[list[float]]) -> None:
    """Neither at the top nor at the bottom."""
    series = [Series(f"s{n}", n + 1, each) for n, each in enumerate(values)]

    svg = stacked_bars([Bar("", str(n)) for n in range(3)], series, "x", show)

    for each in parts(svg, "rect"):
        top = float(each["y"].rstrip("%"))
        assert -0.02 <= top <= 100
        assert top + float(each["height"].rstrip("%")) <= 100.02
