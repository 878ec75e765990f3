"""Money, times and texts as pages show them."""

from __future__ import annotations

import re

import pytest

from gateway.console.web import words
from gateway.console.web.messages import ENGLISH, LOCALE, load_languages


@pytest.mark.parametrize(
    ("nanousd", "shown"),
    [
        (0, "$0.00"),
        (18_308_000, "$0.018308"),
        (486_210_000_000, "$486.21"),
        (-1_500_000_000, "−$1.50"),
        (1, "$0.000000001"),
        (1_234_567_000_000_000, "$1,234,567.00"),
    ],
)
def test_money_is_never_rounded(nanousd: int, shown: str) -> None:
    """As many digits as needed, and at least two decimals."""
    assert words.money(nanousd) == shown


def test_amounts_of_a_column_have_their_points_below_each_other() -> None:
    """With the zeros that are left out, each has nine decimals; an absent amount has none."""
    for nanousd in (0, 1, -18_308_000, 486_210_000_000):
        padded = words.money(nanousd) + words.padding(nanousd)
        assert len(padded.partition(".")[2]) == words.MONEY_DECIMALS

    assert words.padding(None) == ""


def test_dates_are_those_of_the_language() -> None:
    """The form is translated, like every text."""
    forms = {words.DAY_FORM: "%Y年%-m月%-d日"}

    assert words.day(1_779_019_200) == "May 17, 2026"
    assert words.day(1_779_019_200, text=lambda form: forms[form]) == "2026年5月17日"


@pytest.mark.parametrize(
    ("passed", "shown"),
    [
        (0, "just now"),
        (59, "just now"),
        (60, "1 min ago"),
        (7199, "1 h ago"),
        (86_400, "yesterday"),
        (3 * 86_400, "3 days ago"),
    ],
)
def test_past_times_are_shown_in_words(passed: int, shown: str) -> None:
    """The largest unit that fits."""
    assert words.ago(1_800_000_000 - passed, 1_800_000_000) == shown


def test_old_times_are_dates_and_zones_count() -> None:
    """After 30 days the date, and moments in the viewer's zone."""
    assert words.ago(0, 1_800_000_000) == "Jan 1, 1970"
    assert words.moment(1_800_000_000, "Asia/Kathmandu") == "2027-01-15 13:45"
    assert words.utc(1_800_000_000) == "2027-01-15T08:00:00Z"
    assert words.cut("abcdef", 4) == "abc…"
    assert words.cut("abcd", 4) == "abcd"
    assert words.number(1234567) == "1,234,567"


def test_relative_times_are_translated() -> None:
    """By their text, with the number put in afterwards."""
    chinese = {"%(num)s min ago": "%(num)s 分钟前"}

    assert words.ago(0, 130, lambda text: chinese[text]) == "2 分钟前"


@pytest.mark.parametrize("passed", [0, 60, 7199, 86_400, 3 * 86_400, 40 * 86_400])
def test_past_times_have_no_english_in_other_languages(passed: int) -> None:
    """Neither in words nor as a date."""
    languages = load_languages(LOCALE)
    shown = [
        words.ago(1_800_000_000 - passed, 1_800_000_000, messages.gettext)
        for language, messages in languages.items()
        if language != ENGLISH
    ]

    assert len(shown) == len(languages) - 1 > 0
    assert [text for text in shown if re.search("[A-Za-z]", text)] == []


def test_browsers_are_named_in_the_language() -> None:
    """Whether or not their system is known."""
    chinese = {"%(family)s on %(system)s": "%(system)s 上的 %(family)s"}
    chinese |= {"Unknown browser": "未知浏览器"}

    def text(english: str) -> str:
        return chinese.get(english, english)

    assert words.browser_name("Firefox on Linux") == "Firefox on Linux"
    assert words.browser_name("Firefox on Linux", text) == "Linux 上的 Firefox"
    assert words.browser_name("Safari", text) == "Safari"
    assert words.browser_name("Unknown browser on Linux", text) == "Linux 上的 未知浏览器"
