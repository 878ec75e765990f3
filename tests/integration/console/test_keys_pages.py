"""The pages of keys: creating, showing once, changing, and other accounts' keys."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.console.web.viewer import Role
from gateway.core.limits import Limits
from gateway.core.model import Usage
from gateway.settings import Deployment, Model, Prices, Provider, Server, Settings, WireEndpoint
from gateway.store.accounts.audit import SYSTEM, Actor
from gateway.store.accounts.credits import Credits
from gateway.store.keys.repository import KeyDetails
from gateway.store.people.tokens import new_token
from gateway.store.sql.database import Database
from tests.support.booking import book_calls
from tests.support.console import ConsoleApp, viewer
from tests.support.postgres import copy_migrated
from tests.support.reports import statements
from tests.support.usage import usage_event

KEY = re.compile(r"sk-capio-live-\w+")
FORM = {"name": "laptop", "expires": "never", "scope": "all"}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[ConsoleApp]:
    settings = Settings(
        server=Server(data_dir=str(tmp_path)),
        providers=[Provider(name="p", openai=WireEndpoint(base_url="https://p.test/v1"))],
        models=[
            Model(
                name=name,
                prices=Prices(input="1", output="2"),
                deployments=[Deployment(provider="p", model="m")],
            )
            for name in ("deepseek-v4-flash", "kimi-k2.6")
        ],
    )
    copy_migrated(tmp_path)
    async with ConsoleApp(Database(settings), settings) as made:
        account = await made.services.accounts.create("Acme", None, SYSTEM)
        made.viewers.viewer = viewer(account.id)
        yield made


def account_id(app: ConsoleApp) -> str:
    """The account of the viewer."""
    assert app.viewers.viewer is not None
    assert app.viewers.viewer.account is not None
    return app.viewers.viewer.account.account_id


async def test_overview_and_list_take_few_statements(app: ConsoleApp) -> None:
    """At most five, to which that of the session is added."""
    await app.services.keys.create(account_id(app), KeyDetails(name="laptop"), SYSTEM)
    counts = {}
    for path in ("/app", "/app/api-keys"):
        with statements(app.services.database) as ran:
            assert (await app.client.get(path)).status_code == 200
        counts[path] = len(ran)

    assert counts == {"/app": 5, "/app/api-keys": 4}


async def test_guide_waits_until_a_call_completes(app: ConsoleApp) -> None:
    """Also after one that failed; the part asks for itself again until then."""
    now_ms, waits = int(time.time() * 1000), []
    for at, outcome in enumerate(("", "failed", "completed")):
        if outcome:
            event = usage_event(
                f"req_{at}", account_id=account_id(app), outcome=outcome, at_ms=now_ms + at
            )
            await book_calls(app.services.database, event)
        waits.append("hx-get" in (await app.client.get("/app/first-call")).text)

    assert waits == [True, True, False]


async def test_key_is_in_one_response_only(app: ConsoleApp) -> None:
    """The POST shows it; sent again, the page says that it was shown; the list never does."""
    form = {**FORM, "idem": new_token(), "budget_day": "5", "rpm": "60"}

    created = await app.client.post("/app/api-keys", data=form)
    again = await app.client.post("/app/api-keys", data=form)
    listed = await app.client.get("/app/api-keys")

    raw = KEY.findall(created.text)[0]
    assert created.headers["cache-control"] == "no-store"
    assert raw not in again.text
    assert "shown once" in again.text
    assert raw not in listed.text
    (row,) = await app.services.keys.list(account_id(app))
    assert (row.name, row.created_by, row.last_four) == ("laptop", "user:user_1", raw[-4:])
    assert row.limits is not None
    assert (row.limits.rpm, row.limits.budget_day_nanousd) == (60, 5_000_000_000)
    assert "60 requests/min, $5.00 a day" in listed.text


async def test_form_with_errors_keeps_what_was_entered(app: ConsoleApp) -> None:
    """Each field says what is wrong with it, and nothing is created."""
    form = {
        "name": "<b>laptop</b>",
        "expires": "date",
        "date": "2020-01-01",
        "scope": "chosen",
        "rpm": "many",
        "budget_month": "1,0x",
        "idem": new_token(),
    }

    refused = await app.client.post("/app/api-keys", data=form)

    assert refused.status_code == 422
    for text in ("This day has passed.", "Choose at least one model", "Enter a whole number."):
        assert text in refused.text
    assert "&lt;b&gt;laptop" in refused.text
    assert "<b>laptop" not in refused.text
    assert list(await app.services.keys.list(account_id(app))) == []


async def test_key_is_changed_disabled_replaced_and_revoked(app: ConsoleApp) -> None:
    """Each act is audited as the viewer's; revoking needs the typed name and is final."""
    made = await app.services.keys.create(account_id(app), KeyDetails(name="ci"), SYSTEM)
    path = f"/app/api-keys/{made.row.id}"
    changed = {**FORM, "name": "ci-2", "scope": "chosen", "models": ["kimi-k2.6"]}

    statuses = [
        (await app.client.post(path, data=changed)).status_code,
        (await app.client.post(f"{path}/disable")).status_code,
        (await app.client.post(f"{path}/enable")).status_code,
        (await app.client.post(f"{path}/revoke", data={"name": "ci"})).status_code,
    ]
    replaced = await app.client.post(f"{path}/replace", data={"idem": new_token()})
    row = await app.services.keys.get(made.row.id)
    revoked = await app.client.post(f"{path}/revoke", data={"name": row.name})
    late = await app.client.post(f"{path}/enable")

    assert statuses == [303, 303, 303, 422]
    assert KEY.search(replaced.text)
    assert (row.name, row.models) == ("ci-2 (replaced)", frozenset({"kimi-k2.6"}))
    assert row.expires_at is not None
    assert 86_000 < row.expires_at - time.time() <= 86_400
    assert (revoked.status_code, late.status_code) == (303, 303)
    assert (await app.services.keys.get(made.row.id)).state == "revoked"
    entries = await app.services.records.audit(object_id=made.row.id, limit=10)
    assert [each.action for each in entries] == [
        *("key.revoke", "key.change", "key.enable", "key.disable", "key.change", "key.create")
    ]
    assert {each.actor for each in entries[:-1]} == {"user:user_1"}


async def test_key_page_names_who_changed_it_in_five_statements(app: ConsoleApp) -> None:
    """That of the session is added; who is not a member of this account has no name here."""
    services, users = app.services, app.services.people.users
    stranger, colleague = await users.create("eve", "Eve"), await users.create("bob", "Bob Noyce")
    await users.join(colleague.id, account_id(app), "member", SYSTEM)
    made = await services.keys.create(account_id(app), KeyDetails(name="ci"), SYSTEM)
    for by in (colleague, stranger):
        await services.keys.disable(made.row.id, Actor(f"user:{by.id}"))
        await services.keys.enable(made.row.id, Actor(f"user:{by.id}"))

    with statements(services.database) as ran:
        text = (await app.client.get(f"/app/api-keys/{made.row.id}")).text

    assert len(ran) == 5
    assert (text.count("Bob Noyce"), text.count("a former member"), text.count("Eve")) == (2, 2, 0)


@pytest.mark.parametrize("act", ["", "/disable", "/enable", "/revoke", "/replace"])
async def test_other_accounts_keys_do_not_exist(app: ConsoleApp, act: str) -> None:
    """404 on every path, and nothing changes."""
    other = await app.services.accounts.create("Other", None, SYSTEM)
    made = await app.services.keys.create(other.id, KeyDetails(name="ci"), SYSTEM)
    path = f"/app/api-keys/{made.row.id}{act}"

    posted = await app.client.post(path, data={**FORM, "idem": new_token()})
    missing = await app.client.post(f"/app/api-keys/key_none{act}", data=FORM)

    assert (posted.status_code, missing.status_code) == (404, 404)
    assert await app.services.keys.get(made.row.id) == made.row
    if not act:
        assert (await app.client.get(path)).status_code == 404


async def test_viewers_see_keys_and_change_nothing(app: ConsoleApp) -> None:
    """The list is read only for them."""
    made = await app.services.keys.create(account_id(app), KeyDetails(name="ci"), SYSTEM)
    app.viewers.viewer = viewer(account_id(app), Role.VIEWER)

    shown = await app.client.get("/app/api-keys")
    posted = await app.client.post("/app/api-keys", data={**FORM, "idem": new_token()})
    disabled = await app.client.post(f"/app/api-keys/{made.row.id}/disable")

    assert shown.status_code == 200
    assert "Create key" not in shown.text
    assert (posted.status_code, disabled.status_code) == (403, 403)


async def test_overview_guides_to_the_first_call(app: ConsoleApp) -> None:
    """Without calls it waits for one; the guide can be closed."""
    shown = await app.client.get("/app")
    part = await app.client.get("/app/first-call", headers={"hx-request": "true"})

    assert "Make your first call" in shown.text
    assert "ANTHROPIC_BASE_URL" in shown.text
    assert 'hx-trigger="every 3s"' in part.text
    assert "<html" not in part.text


async def test_overview_shows_the_last_fortnight(app: ConsoleApp) -> None:
    """Balance and how long it lasts, budgets, failures, the share of caches, and a plot."""
    account, services = account_id(app), app.services
    await Credits(services.database).topup(account, 10 * 10**9, SYSTEM, reason="test")
    limits = Limits(budget_day_nanousd=4 * 10**9)
    await services.accounts.change(account, SYSTEM, limits=limits)
    now_ms = int(time.time() * 1000)
    for n, (outcome, model) in enumerate((("completed", "kimi-k2.6"), ("failed", "gone"))):
        event = usage_event(
            f"req_{n}",
            account_id=account,
            at_ms=now_ms,
            outcome=outcome,
            model=model,
            usage=Usage(input=100, cache_read=300, output=5),
            cost_nanousd=(2 - 2 * n) * 10**9,
        )
        await book_calls(services.database, event)

    shown = (await app.client.get("/app")).text

    # It spent 2 of 10 dollars today: 8 last for 4 days.
    assert "lasts about 4 days at this week's pace" in shown
    assert "of $4.00" in shown
    assert "50 % failed".replace(" %", "\N{NARROW NO-BREAK SPACE}%") in shown
    assert "75\N{NARROW NO-BREAK SPACE}%" in shown
    assert 'aria-label="Spend by day, ' in shown
    assert "in all 2 requests for $2.00" in shown
    assert "outcome=failures" in shown


async def test_list_says_who_made_each_key_and_sorts(app: ConsoleApp) -> None:
    """By each column; filters stay in the links; keys of pages are folded away."""
    users, keys = app.services.people.users, app.services.keys
    ada = await users.create("ada", "Ada Lovelace")
    await users.join(ada.id, account_id(app), "owner", SYSTEM)
    for name, by, origin in (
        ("beta", Actor(f"user:{ada.id}"), "user"),
        ("alpha", Actor("user:user_gone"), "user"),
        ("gamma", SYSTEM, "user"),
        ("Playground", Actor(f"user:{ada.id}"), "playground"),
    ):
        await keys.create(account_id(app), KeyDetails(name=name, origin=origin), by)

    async def names(query: str) -> list[str]:
        text = (await app.client.get(f"/app/api-keys?{query}")).text
        return re.findall(r'class="long"><a href="/app/api-keys/key_\w+">(\w+)</a>', text)

    text = (await app.client.get("/app/api-keys?state=active&sort=name")).text
    assert await names("") == ["gamma", "alpha", "beta"]
    assert await names("sort=name") == ["alpha", "beta", "gamma"]
    assert await names("sort=nonsense") == await names("")
    assert await names("sort=made") == ["alpha", "beta", "gamma"]
    for column in ("key", "models", "limits", "spent", "used", "expires", "state"):
        assert sorted(await names(f"sort={column}")) == ["alpha", "beta", "gamma"]
        assert f"/app/api-keys?state=active&amp;q=&amp;sort={column}" in text
    assert 'aria-sort="ascending"><a href="/app/api-keys?state=active&amp;q=">' in text
    for maker in ("Ada Lovelace", "a former member", "the operator"):
        assert f">{maker}</td>" in text
    assert "1 key that a page made for itself" in text
