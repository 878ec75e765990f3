"""Translations are read from `.po` files, and the language is the viewer's."""

from __future__ import annotations

from gateway.console.web.messages import Messages, choose_language, read_po

PO = r"""
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\n"

#: a.html:1
msgid "API keys"
msgstr "API 密钥"

msgid "One "
"text"
msgstr "一段"
"文本"

msgid "%(num)s call"
msgid_plural "%(num)s calls"
msgstr[0] "%(num)s 次调用"

msgid "Later"
msgstr ""
"""


def test_texts_plurals_and_lines_are_read() -> None:
    """A text may span lines, and has a form for each number of the language."""
    assert read_po(PO) == {
        "API keys": ["API 密钥"],
        "One text": ["一段文本"],
        "%(num)s call": ["%(num)s 次调用"],
        "Later": [""],
    }


def test_missing_translations_stay_english() -> None:
    """An untranslated text is shown as in the source."""
    messages = Messages("zh-CN", read_po(PO))

    assert messages.gettext("API keys") == "API 密钥"
    assert messages.gettext("Later") == "Later"
    assert messages.gettext("Unknown") == "Unknown"
    assert messages.ngettext("%(num)s call", "%(num)s calls", 2) == "%(num)s 次调用"
    assert messages.ngettext("one", "many", 2) == "many"
    assert messages.ngettext("one", "many", 1) == "one"


def test_language_follows_the_choice_then_the_browser() -> None:
    """A regional variant falls back to its language; an unknown one to English."""
    known = {"en": Messages("en", {}), "zh-CN": Messages("zh-CN", {})}

    assert choose_language("zh-CN", "en", known).language == "zh-CN"
    assert choose_language(None, "zh-TW;q=0.9, en", known).language == "zh-CN"
    assert choose_language(None, "fr, de;q=0.8", known).language == "en"
    assert choose_language(None, "", known).language == "en"
