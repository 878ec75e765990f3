"""Charts: what is drawn, where, and that it is well formed."""

import itertools
import xml.etree.ElementTree as ET

import pytest

from bench.harness.svg import Axis, Group, Row, chart, number

SVG = "{http://www.w3.org/2000/svg}"


def test_axis_has_whole_decades_and_equal_ratios_have_equal_lengths() -> None:
    """Ten times more is as far everywhere."""
    axis = Axis([3.0, 450.0])

    assert axis.ticks() == [1.0, 10.0, 100.0, 1000.0]
    assert axis.x(10) - axis.x(1) == pytest.approx(axis.x(1000) - axis.x(100), abs=0.2)
    assert Axis([10.0]).ticks() == [10.0, 100.0]


def test_bars_and_ranges_are_drawn_to_scale_with_their_figures() -> None:
    """A bar ends at its value, a range has both ends, and labels are escaped."""
    rows = [Row("<ours>", 10.0, "#111111"), Row("theirs", 20.0, "#222222", high=1000.0)]

    root = ET.fromstring(chart("A & B", "ms", [Group("g", rows)]))

    axis = Axis([10.0, 20.0, 1000.0])
    bars = [each for each in root.iter(f"{SVG}rect") if each.get("fill") == "#111111"]
    assert [each.get("x") for each in bars] == [str(axis.x(10.0))]
    ends = [float(each.attrib["cx"]) for each in root.iter(f"{SVG}circle")]
    assert ends == [axis.x(20.0), axis.x(1000.0)]
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert {"A & B", "<ours>", "10.0", "20.0 / 1,000"} <= set(texts)


def test_rows_do_not_overlap_and_fit_into_the_picture() -> None:
    """Every row has a place of its own above the lower edge."""
    groups = [Group("a", [Row("x", 1.0, "#1")] * 3), Group("b", [Row("y", 2.0, "#1")] * 2)]

    root = ET.fromstring(chart("t", "u", groups))

    bars = [each for each in root.iter(f"{SVG}rect") if each.get("fill") == "#1"]
    tops = [float(each.attrib["y"]) for each in bars]
    height = float(bars[0].attrib["height"])
    assert len(tops) == 5
    assert all(after - before >= height for before, after in itertools.pairwise(tops))
    assert tops[-1] + height < float(root.attrib["height"])


def test_what_has_no_place_on_the_axis_is_refused() -> None:
    """Zero has no logarithm, and a chart of nothing says nothing."""
    with pytest.raises(ValueError, match="above zero"):
        chart("t", "u", [Group("g", [Row("x", 0.0, "#1")])])
    with pytest.raises(ValueError, match="above zero"):
        chart("t", "u", [])


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234.5, "1,234"), (99.96, "100.0"), (12.34, "12.3"), (0.0567, "0.057"), (100.0, "100")],
)
def test_numbers_have_about_three_digits(value: float, shown: str) -> None:
    """Charts are read, not computed with."""
    assert number(value) == shown
