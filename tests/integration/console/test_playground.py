"""The playground's key: short-lived, capped, one per viewer, and shown to the page only."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.core.model import Usage
from gateway.settings import Server, Settings
from gateway.store.accounts.audit import SYSTEM
from gateway.store.accounts.credits import Credits
from gateway.store.keys.repository import KeyRow
from gateway.store.sql.database import Database
from tests.support.booking import book_calls
from tests.support.console import ConsoleApp, viewer
from tests.support.pages import other_settings
from tests.support.postgres import copy_migrated
from tests.support.usage import usage_event


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[ConsoleApp]:
    settings = Settings(server=Server(data_dir=str(tmp_path)))
    copy_migrated(tmp_path)
    async with ConsoleApp(Database(settings), settings) as made:
        account = await made.services.accounts.create("Acme", None, SYSTEM)
        made.viewers.viewer = viewer(account.id)
        yield made


async def keys(app: ConsoleApp) -> list[KeyRow]:
    """Return the account's keys, oldest first."""
    return list(await app.services.keys.list())


async def test_key_is_capped_and_replaces_the_former_one(app: ConsoleApp) -> None:
    """An hour, two calls at once, one dollar; not among the keys of the list."""
    first = await app.client.post("/app/playground/key")
    second = await app.client.post("/app/playground/key")

    old, new = await keys(app)
    assert first.headers["cache-control"] == "no-store"
    assert second.json()["key"].endswith(new.last_four)
    assert (old.state, new.state, new.origin) == ("revoked", "active", "playground")
    assert new.expires_at is not None
    assert 3590 < new.expires_at - time.time() <= 3600
    assert new.limits is not None
    assert (new.limits.concurrency, new.limits.budget_total_nanousd) == (2, 10**9)
    page = (await app.client.get("/app/api-keys?state=all")).text
    main = page.split("<main", 1)[1].split("</main>", 1)[0]
    shown, _, folded = main.partition("<details")
    assert ("Playground</" in shown, "Playground</" in folded) == (False, True)


async def test_key_of_another_viewer_stays(app: ConsoleApp) -> None:
    """Two people of an account try models at the same time."""
    await app.client.post("/app/playground/key")
    assert app.viewers.viewer is not None
    other = viewer(app.viewers.viewer.memberships[0].account_id)
    app.viewers.viewer = type(other)(
        user_id="user_2", name="Bob", session_id="s", memberships=other.memberships,
        account=other.account,
    )  # fmt: skip
    await app.client.post("/app/playground/key")

    assert [key.state for key in await keys(app)] == ["active", "active"]


async def test_cost_is_that_of_the_accounts_own_call(app: ConsoleApp) -> None:
    """Null until it is recorded, and for another account's call."""
    assert app.viewers.viewer is not None
    account_id = app.viewers.viewer.memberships[0].account_id
    other = await app.services.accounts.create("Other", None, SYSTEM)
    await Credits(app.services.database).topup(account_id, 10**9, SYSTEM, reason="a test")
    await book_calls(
        app.services.database,
        usage_event(
            "req_1", account_id=account_id, cost_nanousd=140_000,
            usage=Usage(input=1000, cache_read=20, reasoning=5),
        ),
        usage_event("req_2", account_id=other.id),
    )  # fmt: skip

    async def cost(request_id: str) -> dict[str, object] | None:
        found: dict[str, object] | None = (
            await app.client.get(f"/app/playground/cost?id={request_id}")
        ).json()
        return found

    own = await cost("req_1")
    assert own is not None
    assert own == {"cost": "0.00014", "used": "1,000 input, 20 cache read, 5 reasoning"}
    assert (await cost("req_2"), await cost("req_3"), await cost("")) == (None, None, None)


async def test_models_of_the_address_are_chosen(app: ConsoleApp) -> None:
    """Both of a comparison; unknown names are left out, and one model compares with nothing."""
    settings = other_settings()
    app.services.reload(settings)
    both = (await app.client.get("/app/playground?model=cirrus&compare=nimbus-1")).text
    unknown = (await app.client.get("/app/playground?model=cirrus&compare=none")).text
    app.services.reload(msgspec.structs.replace(settings, models=settings.models[:1]))
    alone = (await app.client.get("/app/playground?compare=nimbus-1")).text

    def chosen(text: str) -> list[str]:
        return re.findall(r"<option selected>([^<]+)</option>", text)

    assert chosen(both) == ["cirrus", "nimbus-1"]
    assert chosen(unknown) == ["cirrus"]
    assert 'id="other"' not in alone
