"""The bars of the status page are sums of calls by UTC day."""

from __future__ import annotations

from gateway.console.public.health import Day, read_days
from gateway.store.sql.database import Database
from tests.support.admin_app import AdminApp
from tests.support.usage import NOON_MS, usage_event

DAY_MS = 86_400_000
NOW = NOON_MS // 1000


async def test_days_have_all_calls_of_all_accounts(database: Database) -> None:
    """Failed ones are counted apart; days without calls are there; older ones are not."""
    app = AdminApp(database)
    account = await app.account()
    events = [
        usage_event("r1", account_id=account.id),
        usage_event("r2", account_id=account.id, outcome="failed"),
        usage_event("r3", account_id=account.id, outcome="insured"),
        usage_event("r4", account_id=account.id, at_ms=NOON_MS - DAY_MS),
        usage_event("r5", account_id=account.id, at_ms=NOON_MS - 3 * DAY_MS),
        usage_event("r6", account_id=account.id, model="other"),
    ]
    await app.record(*events)
    await app.client.aclose()

    found = await read_days(database, ["deepseek-v4-flash", "idle"], NOW, 3)

    assert [(day.calls, day.failed) for day in found["deepseek-v4-flash"]] == [
        (0, 0), (1, 0), (3, 2),
    ]  # fmt: skip
    assert {day.level for day in found["idle"]} == {"none"}
    assert isinstance(found["idle"][0], Day)
    assert set(found) == {"deepseek-v4-flash", "idle"}
