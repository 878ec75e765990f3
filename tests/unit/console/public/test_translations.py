"""All pages are complete in every language."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

import gateway.console
from gateway.console.openapi.errors import ERROR_TEXTS
from gateway.console.web.messages import NAMES, read_po
from gateway.console.web.navigation import _CUSTOMER, _HEADER, _OPERATOR
from gateway.settings import Server
from gateway.store.sql.database import Database
from tests.support.console import ConsoleApp
from tests.support.pages import other_settings

FOLDER = Path(gateway.console.__file__).parent
TEMPLATES = sorted((FOLDER / "templates").rglob("*.html"))
# These write documents in English and responses for programs.
_ENGLISH = ("library", "openapi", "admin_api")
MODULES = [path for path in FOLDER.rglob("*.py") if path.parent.name not in _ENGLISH]
LANGUAGES = sorted((FOLDER / "locale").glob("*.po"))
_TEXT = re.compile(r"""(?<!\w)(?:_|ngettext)\(\s*(?:"([^"]+)"|'([^']+)')""")

# Directives of strftime that write words in English.
_NAMES_OF_TIME = re.compile(r"%-?[aAbBp]\b")


def texts() -> set[str]:
    """All texts of the templates, of the navigation, and of the modules of pages."""
    found = [match for path in TEMPLATES for match in _TEXT.findall(path.read_text("utf-8"))]
    texts = {double or single for double, single in found}
    texts |= {text for each in ERROR_TEXTS.values() for text in each}
    texts |= {link.label for group in (*_CUSTOMER, *_OPERATOR, _HEADER) for link in group}
    return texts.union(*(texts_of_module(path) for path in MODULES))


def texts_of_module(path: Path) -> set[str]:
    """Literals given to `page.text`, and sentences kept in constants of the module."""
    tree = ast.parse(path.read_text("utf-8"))
    found = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("page.text", "text")
        and isinstance(node.args[0], ast.Constant)
    }
    found |= {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and _NAMES_OF_TIME.search(str(node.value))
    }
    found |= {
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and str(node.value.value).endswith(".")
    }
    return {str(text) for text in found}


def test_there_are_texts_and_languages() -> None:
    assert len(texts()) > 500
    assert ["en", *(path.stem for path in LANGUAGES)] == list(NAMES)


@pytest.mark.parametrize("path", LANGUAGES, ids=lambda path: path.stem)
def test_every_text_is_translated_with_its_placeholders(path: Path) -> None:
    """No text is missing, and none would fail when its values are put in."""
    known = read_po(path.read_text("utf-8"))

    assert {text for text in texts() if not all(known.get(text, [""]))} == set()
    for text, forms in known.items():
        for form in forms:
            assert sorted(re.findall(r"%\(\w+\)s|%%", form)) == sorted(
                re.findall(r"%\(\w+\)s|%%", text)
            ), text


def test_names_of_months_and_days_are_written_in_one_place() -> None:
    """`Page.date` and `words.day` translate the form; `strftime` elsewhere has only numbers."""
    found = re.compile(r"strftime\(([^()]*)")
    forms = {form for path in MODULES for form in found.findall(path.read_text("utf-8"))}

    assert {form for form in forms if _NAMES_OF_TIME.search(form)} == set()
    assert len([form for form in forms if not form.startswith(('"', "'"))]) == 2, forms


async def test_pages_follow_the_browsers_language(tmp_path: Path) -> None:
    """The page says its language; the documentation itself stays English and says so."""
    settings = msgspec.structs.replace(other_settings(), server=Server(data_dir=str(tmp_path)))
    async with ConsoleApp(Database(settings), settings) as app:
        headers = {"accept-language": "zh-CN,zh;q=0.9"}
        home = (await app.client.get("/", headers=headers)).text
        models = (await app.client.get("/models", headers=headers)).text
        doc = (await app.client.get("/docs/billing", headers=headers)).text
        status = (await app.client.get("/status", headers=headers)).text

    assert '<html lang="zh-CN"' in home
    assert "一个 API，连接各家大语言模型" in home
    assert "模型与价格" in home
    assert '<a href="/models?sort=name">模型</a>' in models
    assert '<article class="prose" lang="en">' in doc
    assert "本页内容" in doc
    assert "没有调用的日子显示为灰色" in status
