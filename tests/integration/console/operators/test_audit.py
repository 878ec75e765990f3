"""`/admin-ui/audit`."""

from __future__ import annotations

import csv
import datetime
import io
import re

import pytest

from gateway.console.operators.audit import Change, changes_of
from gateway.core.limits import Limits
from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import Actor, AuditEntry
from gateway.store.people.users import Users
from gateway.store.sql.database import Database
from tests.support.activity import EVIL, Acme, acme
from tests.support.console import viewer
from tests.support.reports import statements

BY = Actor("admin:alice", address="192.0.2.9")


@pytest.fixture
async def page(database: Database) -> Acme:
    """An operator, and the changes that made two accounts, a top-up and a key."""
    found = await acme(database)
    found.console.viewers.viewer = viewer(found.account_id, is_operator=True)
    return found


async def test_page_shows_what_each_change_set(database: Database, page: Acme) -> None:
    """With actor and address; what clients chose is escaped."""
    await Accounts(database).change(page.account_id, BY, limits=Limits(rpm=7))

    with statements(database) as ran:
        text = await page.get("/admin-ui/audit")

    assert len(ran) == 1
    assert "admin:alice" in text
    assert "192.0.2.9" in text
    assert "account.create" in text
    assert re.search(r">limits\.rpm</span> <ins>7<", text)
    assert EVIL not in text


async def test_changes_of_one_object_are_found_and_downloaded(
    database: Database, page: Acme
) -> None:
    """By the id of the object."""
    path = f"/admin-ui/audit?object={page.key_id}"

    text = await page.get(path)
    rows = list(csv.DictReader(io.StringIO((await page.get(f"{path}&format=csv"))[1:])))
    nothing = await page.get("/admin-ui/audit?object=key_unknown")

    assert "key.create" in text
    assert "account.create" not in text
    assert [(row["action"], row["object"]) for row in rows] == [("key.create", page.key_id)]
    assert "No changes found" in nothing


async def test_changes_are_found_by_actor_action_and_day(database: Database, page: Acme) -> None:
    """In any combination; days are the viewer's, and the link to older ones keeps the filters."""
    await Accounts(database).change(page.account_id, BY, limits=Limits(rpm=7))
    today = datetime.datetime.now(datetime.UTC).date()
    yesterday, tomorrow = (today + datetime.timedelta(days=n) for n in (-1, 1))

    async def actions(query: str) -> set[str]:
        text = await page.get(f"/admin-ui/audit?format=csv&{query}")
        return {row["action"] for row in csv.DictReader(io.StringIO(text[1:]))}

    every = await actions("")
    assert {"account.create", "account.change", "key.create", "credits.topup"} <= every
    assert await actions("actor=ALICE") == {"account.change"}
    assert await actions("actor=%25") == set()
    assert await actions("action=key.") == {"key.create"}
    assert await actions("action=account.create") == {"account.create"}
    assert await actions(f"action=key.&object={page.account_id}") == set()
    assert await actions(f"since={today}&until={tomorrow}") == every
    assert await actions(f"until={yesterday}") == set()
    assert await actions(f"since={tomorrow}") == set()
    shown = await page.get("/admin-ui/audit?action=key.&actor=nobody&since=2026-01-01")
    assert 'href="/admin-ui/audit?actor=nobody&amp;action=key.&amp;since=2026-01-01' in shown
    assert "Clear filters" in shown


async def test_older_changes_are_a_link_away(database: Database, page: Acme) -> None:
    """Pages follow each other without repetitions."""
    for n in range(60):
        await Accounts(database).change(page.account_id, BY, name=f"name {n}")

    first = await page.get("/admin-ui/audit")
    older = re.search(r'class="pager"><a[^>]* href="([^"]+)"', first)
    assert older is not None
    second = await page.get(older[1].replace("&amp;", "&"))

    assert first.count(">account.") == 50
    assert "name 59" in first
    assert "name 59" not in second
    assert "account.create" in second


async def test_audit_log_is_for_operators_only(page: Acme) -> None:
    """An owner does not learn that the page exists."""
    page.console.viewers.viewer = viewer(page.account_id)

    await page.get("/admin-ui/audit", 404)


def test_changes_are_the_fields_that_differ() -> None:
    """Also those that became absent."""
    before, after = {"name": "a", "rpm": 5, "kept": 1}, {"name": "b", "kept": 1}
    entry = AuditEntry(1, 0, "a", "x", "o", before, after, None, None)

    assert changes_of(entry) == [Change("name", "a", "b"), Change("rpm", "5", None)]


def test_changes_are_in_words() -> None:
    """Amounts in dollars, times in UTC, the fields of an object one by one."""
    before: dict[str, object] = {"limits": {}, "expires_at": None}
    after: dict[str, object] = {
        "limits": {"rpm": 60, "budget_day_nanousd": 5_000_000_000},
        "expires_at": 1_779_019_200,
        "models": ["kimi"],
    }
    entry = AuditEntry(1, 0, "a", "x", "o", before, after, None, None)

    assert changes_of(entry) == [
        Change("limits.rpm", None, "60"),
        Change("limits.budget_day", None, "$5.00"),
        Change("expires_at", None, "2026-05-17T12:00:00Z"),
        Change("models", None, '["kimi"]'),
    ]


async def test_people_have_names(database: Database, page: Acme) -> None:
    """An id that only the log knows stays as it is."""
    user = await Users(database).create("grace@example.com", "Grace Hopper")
    for actor in (f"operator:{user.id}", "user:user_gone"):
        await Accounts(database).change(page.account_id, Actor(actor), name=actor)

    text = await page.get("/admin-ui/audit?action=account.change")

    assert re.search(rf'title="operator:{user.id}">Grace Hopper <span[^>]*>operator<', text)
    assert ">user:user_gone<" in text
