"""Deleting oneself and closing the account, from their pages."""

from __future__ import annotations

import msgspec
import pytest

from gateway.console.web.viewer import Viewer
from gateway.store.accounts.accounts import Accounts
from gateway.store.hot_state.current_use import MoneyInUse
from gateway.store.people.tokens import new_token
from gateway.store.people.users import User, Users
from gateway.store.sql.database import Database
from tests.support.activity import BY, Acme, acme
from tests.support.console import viewer

DELETE, CLOSE = "/app/settings/delete", "/app/settings/close"


@pytest.fixture
async def page(database: Database) -> Acme:
    return await acme(database)


@pytest.fixture
async def ada(database: Database, page: Acme) -> User:
    """The only owner, who has just proved who she is."""
    user = await Users(database).create("ada@x.test", "Ada")
    await Users(database).join(user.id, page.account_id, "owner", BY)
    someone: Viewer = msgspec.structs.replace(
        viewer(page.account_id), user_id=user.id, login=user.login, confirmed_at=2**40
    )
    page.console.viewers.viewer = someone
    return user


async def post(page: Acme, path: str, **fields: str) -> tuple[int, str]:
    response = await page.console.client.post(path, data={"idem": new_token(), **fields})
    return response.status_code, response.text


async def test_only_owner_cannot_leave_the_account_alone(
    database: Database, page: Acme, ada: User
) -> None:
    """Until another one is there; then the page says goodbye, and the session is over."""
    wrong = await post(page, DELETE, login="ada")
    alone = await post(page, DELETE, login=ada.login)
    bob = await Users(database).create("bob", "Bob")
    await Users(database).join(bob.id, page.account_id, "owner", BY)
    gone = await post(page, DELETE, login=ada.login)

    assert (wrong[0], alone[0], gone[0]) == (422, 409, 200)
    assert "exactly as it is shown" in wrong[1]
    assert "only owner of “Acme”" in alone[1]
    assert "Your sign-in is deleted" in gone[1]
    assert (await Users(database).get(ada.id)).login == f"deleted:{ada.id}"


async def test_last_operator_cannot_delete_herself(
    database: Database, page: Acme, ada: User
) -> None:
    await Users(database).change(ada.id, BY, "user.operator", is_operator=True)

    status, text = await post(page, DELETE, login=ada.login)

    assert status == 409
    assert "only operator" in text
    assert (await Users(database).get(ada.id)).disabled_at is None


async def test_closing_says_what_happens_to_the_balance(
    database: Database, page: Acme, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused while calls run or Redis is away, and for a wrong name; then it is done."""
    use: list[MoneyInUse | None] = [None]

    async def money(_account_id: str) -> MoneyInUse | None:
        return use[0]

    monkeypatch.setattr(page.console.services.current_use, "money", money)
    form = await page.get(CLOSE)
    wrong = await post(page, CLOSE, name="acme")
    away = await post(page, CLOSE, name="Acme")
    use[0] = MoneyInUse(2, 5 * 10**8, 0)
    running = await post(page, CLOSE, name="Acme")
    still_open = await Accounts(database).get(page.account_id)
    use[0] = MoneyInUse()
    closed = await post(page, CLOSE, name="Acme")

    assert "The balance is $9.99" in form
    assert "pays nothing out" in form
    assert "90 days" in form
    assert (wrong[0], away[0], running[0], closed[0]) == (422, 503, 409, 200)
    assert "Redis does not respond" in away[1]
    assert "Calls run (2) and hold $0.50" in running[1]
    assert still_open.closed_at is None
    assert "1 key is revoked." in closed[1]
    assert (await Accounts(database).get(page.account_id)).closed_at is not None
    assert await Users(database).members(page.account_id) == []
    created = await page.console.client.post(
        "/app/api-keys",
        data={"name": "x", "expires": "never", "scope": "all", "idem": new_token()},
    )
    assert (created.status_code, "closed by its owners" in created.text) == (409, True)


@pytest.mark.parametrize("path", [DELETE, CLOSE])
async def test_form_acts_once_and_after_a_proof(
    database: Database, page: Acme, ada: User, path: str
) -> None:
    """A token that was used does nothing; an old proof leads to the confirmation."""
    token = new_token()
    await page.console.services.people.factors.claim_form(token)
    fields = {"login": ada.login, "name": "Acme", "idem": token}
    again = await page.console.client.post(path, data=fields)
    assert page.console.viewers.viewer is not None
    page.console.viewers.viewer = msgspec.structs.replace(
        page.console.viewers.viewer, confirmed_at=1
    )
    stale = [
        await page.console.client.get(path),
        await page.console.client.post(path, data={**fields, "idem": new_token()}),
    ]

    assert (again.status_code, again.headers["location"]) == (303, "/app/settings")
    assert [each.headers["location"].partition("?")[0] for each in stale] == ["/confirm"] * 2
    assert (await Users(database).get(ada.id)).disabled_at is None
    assert (await Accounts(database).get(page.account_id)).closed_at is None
