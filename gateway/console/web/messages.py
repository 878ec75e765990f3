"""
Translations of the pages: gettext catalogues read from `locale/*.po`.

English is the language of the source, so its texts need no catalogue.
"""

from __future__ import annotations

import ast
import gettext
from pathlib import Path

LOCALE = Path(__file__).parents[1] / "locale"
ENGLISH = "en"
NAMES = {ENGLISH: "English", "zh-CN": "简体中文"}
"""The languages that a user can choose, each by its own name."""


class Messages(gettext.NullTranslations):
    """
    The texts of one language; a text without translation stays English.

    Args:
        language: A tag such as `zh-CN`.
        texts: Translations by English text; for plurals a list of forms, by the singular.
    """

    def __init__(self, language: str, texts: dict[str, list[str]]) -> None:
        super().__init__()
        self.language = language
        self._texts = texts

    def gettext(self, message: str) -> str:
        """Return the translation of a text."""
        found = self._texts.get(message)
        return found[0] if found and found[0] else message

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """Return the translation of a text that depends on a number."""
        found = self._texts.get(msgid1)
        if found and all(found):
            return found[0] if n == 1 else found[-1]
        return msgid1 if n == 1 else msgid2


def load_languages(folder: Path) -> dict[str, Messages]:
    """Return all languages: English, and one for each `.po` file."""
    languages = {ENGLISH: Messages(ENGLISH, {})}
    for path in sorted(folder.glob("*.po")):
        languages[path.stem] = Messages(path.stem, read_po(path.read_text("utf-8")))
    return languages


def read_po(text: str) -> dict[str, list[str]]:
    """Return the translations in a `.po` file: each text's forms, one unless it has a plural."""
    found: dict[str, list[str]] = {}
    singular, forms, part = "", [""], ""
    for raw in [*text.split("\n"), "msgid ''"]:
        line = raw.strip()
        if line.startswith("msgid "):
            if singular:
                found[singular] = forms
            singular, forms, part = ast.literal_eval(line[6:]), [""], "id"
        elif line.startswith("msgid_plural"):
            part = "plural"
        elif line.startswith("msgstr"):
            _, _, value = line.partition(" ")
            if line.startswith("msgstr[") and not line.startswith("msgstr[0]"):
                forms.append("")
            forms[-1], part = ast.literal_eval(value), "text"
        elif line.startswith('"'):
            if part == "id":
                singular += ast.literal_eval(line)
            elif part == "text":
                forms[-1] += ast.literal_eval(line)
    return found


def choose_language(wanted: str | None, accepted: str, known: dict[str, Messages]) -> Messages:
    """
    Return the messages in the viewer's language.

    Args:
        wanted: The viewer's choice.
        accepted: The `accept-language` header.
        known: All languages.
    """
    tags = [wanted] if wanted else []
    tags += [part.partition(";")[0].strip() for part in accepted.split(",")[:20]]
    for tag in tags:
        for name, messages in known.items():
            if tag.lower() == name.lower() or tag.lower().split("-")[0] == name.split("-")[0]:
                return messages
    return known[ENGLISH]
