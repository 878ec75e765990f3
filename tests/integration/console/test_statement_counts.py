"""How many SQL statements each page takes, with a real session, contents, and a colleague."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from gateway.console.routes import ROUTES
from gateway.settings import Server
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.codes import CodeDetails, Codes
from gateway.store.announcements.notices import NoticeLevel, Notices
from gateway.store.sql.database import Database
from tests.support.console import ConsoleApp
from tests.support.postgres import copy_migrated
from tests.support.reports import statements
from tests.support.showcase import DOLLAR, USUAL_MODELS, Showcase, catalogue, settings_of

MOST = 6
# These stream what they read bit by bit.
STREAMED = ("/app/settings/export", "/app/settings/account/export", "/admin-ui/live/events")


class Seen(NamedTuple):
    """The pages as an operator sees them who owns an account."""

    app: ConsoleApp
    names: dict[str, str]
    """What stands for the variable segments of paths."""


@pytest.fixture
async def seen(tmp_path: Path) -> AsyncIterator[Seen]:
    text = '[console]\noperator_2fa = false\n[brand]\npublic_url = "http://console.test"\n'
    settings = settings_of(text + catalogue(USUAL_MODELS, 9))
    settings = msgspec.structs.replace(settings, server=Server(data_dir=str(tmp_path)))
    copy_migrated(tmp_path)
    async with ConsoleApp(Database(settings), settings, real_sessions=True) as app:
        database = app.services.database
        show = Showcase(database, settings, USUAL_MODELS, int(time.time() * 1000))
        user, account = await show.operator("ada", "Ada", "Acme")
        colleague = await show.users.create("grace", "Grace Hopper")
        by = Actor(f"user:{colleague.id}")
        await show.users.join(colleague.id, account, "owner", by)
        key = await show.key(account, "laptop", colleague.id)
        for change in (show.keys.disable, show.keys.enable):
            await change(key, by=by)
        await show.credits.topup(account, DOLLAR, by, reason="card")
        calls = await show.calls(account, [key], per_day=6, days=4)
        await Codes(database).create(CodeDetails(amount_nanousd=DOLLAR, note="n"), by, 2)
        await Notices(database).publish("soon", NoticeLevel.INFO, by, starts_at=None, ends_at=None)
        app.client.cookies.set("session", await show.session(user))
        yield Seen(
            app,
            {
                "key_id": key,
                "account_id": account,
                "request_id": calls[-1].request_id,
                "name": USUAL_MODELS[0].name,
            },
        )


def paths(names: dict[str, str]) -> list[str]:
    """The paths of all pages, with the names filled in."""
    found = []
    for route in ROUTES:
        path = route.path
        for name, value in names.items():
            path = path.replace(f"{{{name}}}", value)
        if route.method == "GET" and "{" not in path and path not in STREAMED:
            found.append(path)
    return found


async def test_pages_take_at_most_six_statements(seen: Seen) -> None:
    """That of the session included; the second view, since the first may note its time."""
    counts = {}
    for path in paths(seen.names):
        await seen.app.client.get(path)
        with statements(seen.app.services.database) as ran:
            response = await seen.app.client.get(path)
        if response.status_code == 200:  # others need mail, passkeys or a choice
            counts[path] = len(ran)

    assert len(counts) > 55
    assert {path: count for path, count in counts.items() if count > MOST} == {}
    assert counts[f"/app/api-keys/{seen.names['key_id']}"] == MOST
