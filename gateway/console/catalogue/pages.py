"""`/admin-ui/catalogue`: providers and models of the file and of SQL, and changes of the latter."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Sequence
from typing import Final, cast
from urllib.parse import urlencode

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.reporting.filters import LONGEST_VALUE
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.operations.refusals import REFUSALS, refusal
from gateway.operations.service.catalogue import CatalogueEntry, InvalidEntryError
from gateway.settings.entries.merge import KINDS, Kind, Origin
from gateway.settings.entries.toml import write_toml
from gateway.store.catalogue.records import UnknownEntryError

MOST_SHOWN: Final = 500
"""Entries of a kind; more are found by their names."""
MAX_TEXT: Final = 64 * 1024
_PATH: Final = "/admin-ui/catalogue"
_SKELETON: Final[dict[Kind, str]] = {
    "provider": 'openai = { base_url = "https://api.example.com/v1" }\n'
    'api_key_env = "EXAMPLE_API_KEY"\n',
    "model": 'prices = { input = "0.50", output = "1.50" }\ncontext = 128000\n'
    'max_output = 8192\ndeployments = [\n  { provider = "example", model = "name-there" },\n]\n',
}


async def catalogue(page: Page) -> Response:
    """Show all providers and models."""
    text = page.query("q").strip()[:LONGEST_VALUE]
    operations = page.services.entries
    found: dict[Kind, Sequence[CatalogueEntry]] = {}
    for kind in KINDS:
        entries = await operations.list(kind)
        found[kind] = [each for each in entries if text.lower() in each.name.lower()]
    revision, workers = await operations.workers()
    return page.render(
        "catalogue/list.html",
        providers=found["provider"][:MOST_SHOWN],
        models=found["model"][:MOST_SHOWN],
        hidden=sum(max(len(entries) - MOST_SHOWN, 0) for entries in found.values()),
        text=text,
        revision=revision,
        workers=workers,
        is_on=page.services.settings.catalogue.sql,
        state_of=state_of,
        path_of=entry_url,
        summary=summary,
        now=int(time.time()),
    )


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What a form shows."""

    kind: Kind
    name: str
    text: str
    entry: CatalogueEntry | None = None
    is_new: bool = False


async def new(page: Page) -> Response:
    """Show an empty form."""
    kind = _kind(page.query("kind"))
    return _form(page, Shown(kind=kind, name="", text=_SKELETON[kind], is_new=True))


async def entry(page: Page) -> Response:
    """Show an entry; those of SQL with a form."""
    origin = page.query("origin") or None
    return _form(
        page,
        await _find(page, page.query("kind"), page.query("name"), cast("Origin | None", origin)),
    )


async def save(page: Page) -> Response:
    """Create or replace an entry."""
    form = await page.form()
    shown = Shown(
        kind=_kind(form.text("kind")),
        name=form.text("name"),
        text=form.raw("settings"),
        is_new=form.text("new") == "1",
    )
    try:
        settings = _read(shown)
        if shown.is_new:
            await _check_unused(page, shown)
        if not await page.claim(form):
            return page.redirect(_PATH)
        await page.services.entries.put(shown.kind, shown.name, settings, page.actor)
    except InvalidEntryError as error:
        return _form(page, shown, problems=error.problems, status=422)
    except REFUSALS as error:
        lines = refusal(error).message.split("\n")
        return _form(page, shown, problems=lines, status=409)
    return page.redirect(entry_url(shown.kind, shown.name, "sql"))


async def delete(page: Page) -> Response:
    """Delete an entry of SQL, once its name was typed."""
    form = await page.form()
    shown = await _find(page, form.text("kind"), form.text("name"), "sql")
    if form.text("typed") != shown.name:
        problem = page.text("Type the name exactly as it is shown.")
        return _form(page, shown, typed=problem, status=422)
    if not await page.claim(form):
        return page.redirect(_PATH)
    try:
        await page.services.entries.delete(shown.kind, shown.name, page.actor)
    except REFUSALS as error:
        return _form(page, shown, typed=refusal(error).message, status=409)
    return page.redirect(_PATH)


async def _find(page: Page, kind: str, name: str, origin: Origin | None) -> Shown:
    """Return an entry; raise HTTPException (404) if there is none."""
    try:
        found = await page.services.entries.get(_kind(kind), name, origin)
    except UnknownEntryError as error:
        raise HTTPException(404) from error
    text = write_toml(found.settings or {})
    return Shown(kind=found.kind, name=name, text=text, entry=found)


def _read(shown: Shown) -> dict[str, object]:
    problem = f"The settings exceed {MAX_TEXT} characters."
    if len(shown.text) <= MAX_TEXT:
        try:
            return tomllib.loads(shown.text.replace("\r\n", "\n"))
        except (ValueError, RecursionError) as failure:
            problem = f"This is not TOML: {failure}"
    raise InvalidEntryError(shown.kind, shown.name, [problem])


async def _check_unused(page: Page, shown: Shown) -> None:
    """Raise InvalidEntryError if SQL has the name: the form is for a new entry."""
    try:
        await page.services.entries.get(shown.kind, shown.name, "sql")
    except UnknownEntryError:
        return
    problem = page.text("SQL has an entry of this name. Choose it in the list to change it.")
    raise InvalidEntryError(shown.kind, shown.name, [problem])


def _form(
    page: Page,
    shown: Shown,
    *,
    problems: Sequence[str] = (),
    typed: str = "",
    status: int = 200,
) -> Response:
    return page.render(
        "catalogue/entry.html",
        status=status,
        kind=shown.kind,
        name=shown.name,
        settings=shown.text,
        entry=shown.entry,
        is_new=shown.is_new,
        is_file=shown.entry is not None and shown.entry.origin == "file",
        problems=problems,
        typed=typed,
        is_on=page.services.settings.catalogue.sql,
        state_of=state_of,
        most=MAX_TEXT,
        now=int(time.time()),
        idem=page.new_form_token(),
    )


def state_of(each: CatalogueEntry) -> tuple[str, str]:
    """Return the state of an entry as a key of its word, and the kind of its tag."""
    if each.overridden:
        return "overridden", "warn"
    if not each.in_force:
        return "left out", "bad"
    if each.worker_problems:
        return "refused by workers", "bad"
    return ("in part", "warn") if each.problems else ("in force", "ok")


def entry_url(kind: Kind, name: str, origin: Origin) -> str:
    """Return the path of an entry's page."""
    return f"{_PATH}/entry?{urlencode({'kind': kind, 'name': name, 'origin': origin})}"


def summary(each: CatalogueEntry) -> list[str]:
    """Return where a provider is, or the deployments of a model."""
    settings = each.settings or {}
    if each.kind == "provider":
        wires = [settings.get(wire) for wire in ("openai", "anthropic")]
        return [str(wire.get("base_url", "")) for wire in wires if isinstance(wire, dict)]
    deployments = settings.get("deployments")
    return [
        f"{each.get('provider', '')}/{each.get('model', '')}"
        for each in (deployments if isinstance(deployments, list) else [])
        if isinstance(each, dict)
    ]


def _kind(text: str) -> Kind:
    for kind in KINDS:
        if text == kind:
            return kind
    raise HTTPException(404)


ROUTES = (
    Route("GET", _PATH, Access.OPERATOR, catalogue),
    Route("GET", f"{_PATH}/new", Access.OPERATOR, new, confirmed=True),
    Route("GET", f"{_PATH}/entry", Access.OPERATOR, entry, confirmed=True),
    Route("POST", f"{_PATH}/save", Access.OPERATOR, save, confirmed=True),
    Route("POST", f"{_PATH}/delete", Access.OPERATOR, delete, confirmed=True),
)
