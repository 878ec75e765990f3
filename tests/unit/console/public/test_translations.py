"""The public pages are complete in every language."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import gateway.console
from gateway.console.web.messages import read_po
from gateway.settings import Server
from gateway.store.sql.database import Database
from tests.support.console import ConsoleApp
from tests.support.pages import other_settings

FOLDER = Path(gateway.console.__file__).parent
TEMPLATES = [
    *(FOLDER / "templates" / "public").glob("*.html"),
    *(FOLDER / "templates" / name for name in ("base.html", "public.html", "error.html")),
]
LANGUAGES = sorted((FOLDER / "locale").glob("*.po"))
_TEXT = re.compile(r"""(?<!\w)(?:_|ngettext)\(\s*(?:"([^"]+)"|'([^']+)')""")


def texts() -> set[str]:
    """All texts of the public templates."""
    found = [match for path in TEMPLATES for match in _TEXT.findall(path.read_text("utf-8"))]
    return {double or single for double, single in found}


def test_there_are_texts_and_languages() -> None:
    assert len(texts()) > 90
    assert [path.stem for path in LANGUAGES] == ["zh-CN"]


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
