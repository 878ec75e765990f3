"""Operators see providers and models with their origin, and change those in SQL."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import msgspec
import pytest

from gateway.console.web.messages import LOCALE, read_po
from gateway.console.web.viewer import Viewer
from gateway.settings import Server, parse
from gateway.store.accounts.audit import AuditLog
from gateway.store.catalogue.records import CatalogueRecords
from gateway.store.sql.database import Database
from tests.support.console import ConsoleApp

PATH = "/admin-ui/catalogue"
FILE = """
[[providers]]
name = "acme"
api_key_env = "ACME_API_KEY"
openai = { base_url = "https://api.acme.example/v1" }

[[models]]
name = "small"
deployments = [{ provider = "acme", model = "small-1" }]
"""
PROVIDER = 'openai = { base_url = "https://api.new.example/v1" }\napi_key_env = "NEW_API_KEY"\n'
MODEL = 'deployments = [{ provider = "new", model = "m" }]\nprices = { input = "1" }\n'


def person(**more: object) -> Viewer:
    settings: dict[str, object] = {"is_operator": True, "confirmed_at": 2**40, **more}
    return Viewer(user_id="user_1", name="Ada", session_id="s", **settings)  # type: ignore[arg-type]


@pytest.fixture
async def app(database: Database, tmp_path: Path) -> AsyncIterator[ConsoleApp]:
    server = Server(data_dir=str(tmp_path))
    settings = msgspec.structs.replace(parse(FILE), server=server)
    async with ConsoleApp(database, settings, person()) as made:
        yield made


async def text_of(app: ConsoleApp, path: str = PATH, status: int = 200) -> str:
    response = await app.client.get(path)
    assert response.status_code == status
    return html.unescape(response.text)


async def send(app: ConsoleApp, action: str, **fields: str) -> tuple[int, str]:
    """Send a form; return the status and the page, or where the response leads."""
    page = await text_of(app, f"{PATH}/new?kind=provider")
    idem = re.search(r'name="idem" value="([^"]+)"', page)
    assert idem is not None
    response = await app.client.post(f"{PATH}/{action}", data={"idem": idem[1], **fields})
    return response.status_code, response.headers.get("location", html.unescape(response.text))


async def add(app: ConsoleApp) -> None:
    for kind, name, settings in (("provider", "new", PROVIDER), ("model", "team/new", MODEL)):
        status, _ = await send(app, "save", kind=kind, name=name, settings=settings, new="1")
        assert status == 303


async def test_entries_are_added_changed_and_deleted(app: ConsoleApp, database: Database) -> None:
    """With the operator in the audit log."""
    await add(app)
    listed = await text_of(app)
    assert "https://api.acme.example/v1" in listed
    assert "https://api.new.example/v1" in listed
    assert "new/m" in listed

    where = f"{PATH}/entry?kind=model&name=team%2Fnew&origin=sql"
    page = await text_of(app, where)
    assert 'prices = { input = "1" }' in page
    changed = {"kind": "model", "name": "team/new", "settings": MODEL.replace('"1"', '"3"')}
    status, location = await send(app, "save", **changed)
    assert (status, unquote(location)) == (303, unquote(where))
    assert 'prices = { input = "3" }' in await text_of(app, where)

    wrong = await send(app, "delete", kind="model", name="team/new", typed="new")
    assert wrong[0] == 422
    assert "Type the name exactly" in wrong[1]
    in_use = await send(app, "delete", kind="provider", name="new", typed="new")
    assert in_use[0] == 409
    assert "could no longer be served" in in_use[1]
    for kind, name in (("model", "team/new"), ("provider", "new")):
        assert await send(app, "delete", kind=kind, name=name, typed=name) == (303, PATH)
    await text_of(app, where, 404)

    audit = await AuditLog(database).list(object_id="team/new")
    assert [each.action for each in audit] == ["model.delete", "model.change", "model.create"]
    assert {each.actor for each in audit} == {"operator:user_1"}


async def test_errors_are_listed_and_the_text_is_kept(app: ConsoleApp) -> None:
    """Of the settings and of TOML; nothing is changed."""
    for settings, error in (
        ('openai = { base_url = "ftp://x" }', "openai.base_url: "),
        ("openai = {", "This is not TOML"),
        (PROVIDER + 'dialect = "<script>"', "dialect: "),
        (PROVIDER + f'headers = {{ a = "{"x" * 70_000}" }}', "The settings exceed"),
    ):
        fields = {"kind": "provider", "name": "new", "settings": settings}
        status, page = await send(app, "save", **fields, new="1")
        assert status == 422
        assert error in page
        assert settings[:40] in page
    assert (await CatalogueRecords(app.services.database).read()).entries == ()


async def test_form_for_a_new_entry_replaces_none(app: ConsoleApp) -> None:
    """The name exists in SQL."""
    await add(app)

    status, page = await send(app, "save", kind="provider", name="new", settings="", new="1")

    assert status == 422
    assert "SQL has an entry of this name" in page


async def test_entry_of_the_file_is_shown_and_has_precedence(app: ConsoleApp) -> None:
    """It has no form; one of the same name in SQL says that it is not used."""
    await add(app)
    page = await text_of(app, f"{PATH}/entry?kind=model&name=small")
    assert "This entry is in the configuration file." in page
    assert "/admin-ui/catalogue/save" not in page
    status, _ = await send(app, "save", kind="model", name="small", settings=MODEL, new="1")
    assert status == 303

    assert "the file's is used" in await text_of(app)
    shadowed = await text_of(app, f"{PATH}/entry?kind=model&name=small&origin=sql")
    assert "the configuration file has an entry of this name" in shadowed


async def test_pages_are_found_by_name_and_unknown_ones_are_missing(app: ConsoleApp) -> None:
    assert "No entry matches" in await text_of(app, f"{PATH}?q=nothing")
    for query in ("entry?kind=model&name=no", "entry?kind=x&name=small", "new?kind=x"):
        await text_of(app, f"{PATH}/{query}", 404)


async def test_changes_need_a_recent_confirmation(app: ConsoleApp) -> None:
    """As other changes of operators do."""
    app.viewers.viewer = person(confirmed_at=0)

    response = await app.client.get(f"{PATH}/new?kind=model")

    assert response.status_code == 303
    assert response.headers["location"].startswith("/confirm?")


async def test_pages_are_translated(app: ConsoleApp) -> None:
    """No text of the list and the form stays English."""
    known = read_po((LOCALE / "zh-CN.po").read_text("utf-8"))
    app.client.cookies.set("language", "zh-CN")

    page = await text_of(app, f"{PATH}/new?kind=model")

    for text in ("Add a model", "Settings, as TOML", "Catalogue"):
        assert known[text][0] in page
        assert text not in page
