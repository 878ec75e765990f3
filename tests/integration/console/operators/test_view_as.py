"""An operator looks at an account's pages: marked, audited, and without changing anything."""

from __future__ import annotations

import msgspec

from gateway.console.routes import ROUTES
from gateway.console.signin.secret import ConsoleSecret
from gateway.console.web.view_as import is_visible, view_as_cookie, viewing_as
from gateway.console.web.viewer import Role
from gateway.store.accounts.accounts import Accounts
from gateway.store.sql.database import Database
from tests.support.console import viewer
from tests.support.operators import Operator, operator

MARK = "as an operator. Nothing can be changed here"
SECRET = ConsoleSecret(b"x" * 32)


async def watching(database: Database) -> tuple[Operator, str]:
    """Return an operator who is no member of Acme, and Acme's id."""
    page = await operator(database)
    own = await Accounts(database).create("Own")
    someone = viewer(own.id, is_operator=True)
    page.acme.console.viewers.viewer = msgspec.structs.replace(someone, confirmed_at=2**40)
    return page, page.acme.account_id


async def test_operator_sees_the_accounts_pages_until_the_view_ends(database: Database) -> None:
    """With its own calls and money, marked on each; the audit log has the view."""
    page, account_id = await watching(database)
    assert "req_0" not in await page.get("/app/requests")

    begun = await page.post(f"/admin-ui/accounts/{account_id}/view-as")
    texts = [await page.get(path) for path in ("/app", "/app/requests", "/app/billing")]
    (entry,) = [each for each in await page.changes(account_id) if each.action == "account.view_as"]
    ended = await page.post("/admin-ui/view-as/end")

    assert (begun.status_code, begun.headers["location"]) == (303, "/app")
    assert "HttpOnly" in begun.headers["set-cookie"]
    assert all(MARK in text for text in texts)
    assert "req_0" in texts[1]
    assert "invoice 7" in texts[2]
    assert entry.actor == "operator:user_1"
    assert ended.headers["location"] == f"/admin-ui/accounts/{account_id}"
    assert MARK not in await page.get("/app")
    assert MARK not in await page.get("/admin-ui")


async def test_nothing_can_be_changed_in_a_view(database: Database) -> None:
    """Every route below /app that changes something, or shows a person's own pages, is 403."""
    page, account_id = await watching(database)
    await page.post(f"/admin-ui/accounts/{account_id}/view-as")
    client = page.acme.console.client
    found = {
        (route.method, route.path): (await client.request(route.method, route.path)).status_code
        for route in ROUTES
        if route.path.startswith("/app") and not is_visible(route.method, route.path, route.access)
    }

    assert len(found) > 20
    assert set(found.values()) == {403}
    assert 'href="/app/security"' not in await page.get("/app")
    assert (await page.post("/admin-ui/accounts/acct_none/view-as")).status_code == 404


def test_cookie_belongs_to_one_operators_session() -> None:
    """Of another session, of one who is no operator any more, forged or expired: no view."""
    someone = viewer("acct_own", Role.OWNER, is_operator=True)
    cookie = view_as_cookie(SECRET, someone, "acct_1", "n" * 300)
    seen = viewing_as(SECRET, someone, cookie, "/app/usage")
    other = msgspec.structs.replace(someone, session_id="session_2")
    former = msgspec.structs.replace(someone, is_operator=False)

    assert seen.views_as
    assert seen.account is not None
    assert (seen.account.account_id, seen.account.role) == ("acct_1", Role.VIEWER)
    assert viewing_as(SECRET, other, cookie, "/app") is other
    assert viewing_as(SECRET, former, cookie, "/app") is former
    for wrong in (None, "", "x", f"{cookie}x", SECRET.sign("!", "view-as", 60), cookie[1:]):
        assert viewing_as(SECRET, someone, wrong, "/app") is someone
    assert viewing_as(SECRET, someone, cookie, "/admin-ui") is someone
    assert viewing_as(SECRET, someone, cookie, "/application") is someone
