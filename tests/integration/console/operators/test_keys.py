"""`/admin-ui/keys`."""

from __future__ import annotations

import csv
import io
import json

import pytest

from gateway.console.operators import keys as keys_page
from gateway.core.limits import KeyLimits
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.sql.database import Database
from tests.support.activity import EVIL
from tests.support.operators import Operator, operator
from tests.support.reports import statements

LIST = "/admin-ui/keys"


@pytest.fixture
async def page(database: Database) -> Operator:
    return await operator(database)


async def test_keys_of_all_accounts_are_found(database: Database, page: Operator) -> None:
    """By name, end and SHA-256; one statement; names of clients are escaped."""
    other = await Keys(database, "sk-").create(page.acme.account_id, KeyDetails(name="ci"))

    with statements(database) as ran:
        text = await page.get(LIST)
    by_end = await page.get(f"{LIST}?q={other.row.last_four}")
    by_digest = await page.get(f"{LIST}?digest={other.change.digest.hex()}")
    unknown = await page.get(f"{LIST}?digest={'0' * 64}")

    assert len(ran) == 1
    assert EVIL not in text
    assert f"object={page.acme.key_id}" in text
    for found in (by_end, by_digest):
        assert f"object={other.row.id}" in found
        assert f"object={page.acme.key_id}" not in found
    assert "No key matches" in unknown


async def test_what_is_shown_is_downloaded(
    database: Database, page: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several steps, with the filters; names of clients begin no formula."""
    monkeypatch.setattr(keys_page, "_BATCH", 1)
    details = KeyDetails(name="ci", models=["kimi"], limits=KeyLimits(rpm=5))
    made = await Keys(database, "sk-").create(page.acme.account_id, details)

    text = await page.get(f"{LIST}?format=csv")
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(text[1:], newline=""))}
    some = json.loads(await page.get(f"{LIST}?format=json&q={made.row.last_four}"))

    assert set(rows) >= {made.row.id, page.acme.key_id}
    assert rows[page.acme.key_id]["name"] == f"'{EVIL}"
    assert rows[page.acme.key_id]["last_call"] != ""
    ci = rows[made.row.id]
    assert (ci["account"], ci["models"], ci["limits"], ci["state"]) == (
        "Acme", "kimi", "5 requests/min", "active",
    )  # fmt: skip
    assert [each["id"] for each in some] == [made.row.id]


async def test_key_is_disabled_enabled_and_revoked(database: Database, page: Operator) -> None:
    """Redis is away, so the page says that the change comes later; revoking is final."""
    key_id, keys = page.acme.key_id, Keys(database, "sk-")
    states = []
    for action in ("disable", "enable", "revoke", "enable"):
        response = await page.post(f"{LIST}/{key_id}/{action}")
        states.append((response.status_code, (await keys.get(key_id)).state))
    late = await page.get(f"{LIST}?q={key_id}&late=1")

    assert states == [(303, "disabled"), (303, "active"), (303, "revoked"), (303, "revoked")]
    assert "when Redis is back" in late
    assert (await page.changes(key_id))[0].actor == "operator:user_1"
    assert (await page.post(f"{LIST}/key_unknown/disable")).status_code == 404
