"""`/admin-ui/people`."""

from __future__ import annotations

import pytest

from gateway.store.people.users import User, Users
from gateway.store.sql.database import Database
from tests.support.operators import Operator, operator
from tests.support.reports import statements

LIST = "/admin-ui/people"


@pytest.fixture
async def page(database: Database) -> Operator:
    return await operator(database)


@pytest.fixture
async def grace(database: Database) -> User:
    return await Users(database).create("grace@example.com", "Grace Hopper")


async def test_people_are_listed_and_found(database: Database, page: Operator, grace: User) -> None:
    """In one statement."""
    with statements(database) as ran:
        text = await page.get(LIST)

    assert len(ran) == 1
    assert "grace@example.com" in text
    assert grace.id in await page.get(f"{LIST}?q=hopper")
    assert "No one matches" in await page.get(f"{LIST}?q=nobody")


async def test_operator_makes_operators_and_keeps_people_out(
    database: Database, page: Operator, grace: User
) -> None:
    """Each change is audited."""
    path, users = f"{LIST}/{grace.id}", Users(database)

    await page.post(f"{path}/operator", operator="yes")
    promoted = await users.get(grace.id)
    await page.post(f"{path}/operator", operator="no")
    await page.post(f"{path}/disabled", disabled="yes")
    disabled = await users.get(grace.id)
    await page.post(f"{path}/disabled", disabled="no")
    ended = await page.post(f"{path}/sessions")

    assert promoted.is_operator
    assert not disabled.is_operator
    assert disabled.disabled_at is not None
    assert (await users.get(grace.id)).disabled_at is None
    assert ended.status_code == 303
    actors = {each.actor for each in (await page.changes(grace.id))[:4]}
    assert actors == {"operator:user_1"}


async def test_reset_link_is_shown_once(page: Operator, grace: User) -> None:
    """It is in one response only."""
    form = {"idem": await page.idem(LIST)}

    made = await page.post(f"{LIST}/{grace.id}/reset", **form)
    again = await page.post(f"{LIST}/{grace.id}/reset", **form)

    assert "/reset#" in made.text
    assert again.status_code == 303
    assert "/reset#" not in await page.get(LIST)


@pytest.mark.parametrize(("act", "field"), [("operator", "operator"), ("disabled", "disabled")])
async def test_operator_cannot_lock_themselves_out(
    database: Database, page: Operator, act: str, field: str
) -> None:
    """Another operator can; the last one would need the command line."""
    own = await Users(database).create("ada@example.com", "Ada", is_operator=True)
    someone = page.acme.console.viewers.viewer
    assert someone is not None
    page.acme.console.viewers.viewer = type(someone)(
        user_id=own.id, name="Ada", session_id="s", is_operator=True, confirmed_at=2**40
    )

    response = await page.post(f"{LIST}/{own.id}/{act}", **{field: "no"})

    assert response.status_code == 409
    assert "lock yourself out" in response.text
    assert (await Users(database).get(own.id)).is_operator


async def test_unknown_user_is_not_found(page: Operator) -> None:
    """404, whatever the act."""
    assert (await page.post(f"{LIST}/user_unknown/sessions")).status_code == 404
