"""`/app/billing/limits`."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.calendar import month_of
from gateway.core.limits import Limits
from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import AuditLog
from gateway.store.accounts.snapshot import AccountRepository
from gateway.store.people.tokens import new_token
from gateway.store.sql.database import Database
from tests.support.activity import BY, Acme, acme

PATH = "/app/billing/limits"
EMPTY = {"budget_day": "", "budget_month": "", "budget_total": "", "low_balance": ""}


@pytest.fixture
async def page(database: Database) -> Acme:
    """An account whose operator allows $20 a month, and an owner who just proved who they are."""
    made = await acme(database)
    limits = Limits(rpm=9, budget_month_nanousd=20 * 10**9)
    await Accounts(database).change(made.account_id, BY, limits=limits)
    viewers = made.console.viewers
    assert viewers.viewer is not None
    viewers.viewer = msgspec.structs.replace(viewers.viewer, confirmed_at=2**40)
    return made


async def post(page: Acme, **fields: str) -> tuple[int, str]:
    form = {**EMPTY, "idem": new_token(), **fields}
    response = await page.console.client.post(PATH, data=form)
    return response.status_code, response.text


async def test_own_budgets_reach_the_limiter(database: Database, page: Acme) -> None:
    """The lower of two counts; the operator's other limits stay, and so do its own budgets."""
    status, _ = await post(page, budget_day="$1.50", budget_month="20", low_balance="1,000")

    loaded = await AccountRepository(database).load(page.account_id, (), day=0, month=month_of(0))
    account = await Accounts(database).get(page.account_id)
    billing = await page.get("/app/billing?saved=1")
    form = await page.get(PATH)
    assert status == 303
    assert loaded is not None
    assert loaded.limits == Limits(
        rpm=9, budget_day_nanousd=15 * 10**8, budget_month_nanousd=20 * 10**9
    )
    assert account.limits == Limits(rpm=9, budget_month_nanousd=20 * 10**9)
    assert account.low_balance_nanousd == 1000 * 10**9
    assert "of $1.50" in billing
    assert "of $20.00" in billing
    assert 'value="1000.00"' in form
    assert "at most $20.00" in form
    # An operator who lowers a budget later is not overruled.
    await Accounts(database).change(page.account_id, BY, limits=Limits(budget_day_nanousd=1))
    lowered = await Accounts(database).get(page.account_id)
    assert lowered.limits_in_force.budget_day_nanousd == 1
    await post(page)
    assert (await Accounts(database).get(page.account_id)).own_budgets == Limits()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"budget_month": "20.000000001"}, "The operator allows at most $20.00."),
        ({"budget_day": "-1"}, "Enter dollars like 12.50"),
        ({"budget_total": "1e3"}, "Enter dollars like 12.50"),
        ({"low_balance": "many"}, "Enter dollars like 12.50"),
        ({"low_balance": "99999999999"}, "Enter dollars like 12.50"),
    ],
)
async def test_what_is_wrong_stands_beside_its_field(
    database: Database, page: Acme, fields: dict[str, str], problem: str
) -> None:
    """Nothing is saved, and nothing that was typed is lost."""
    before = await Accounts(database).get(page.account_id)

    status, text = await post(page, **{"budget_day": "3.25", **fields})

    assert status == 422
    assert problem in text
    assert f'value="{next(iter(fields.values()))}"' in text
    assert await Accounts(database).get(page.account_id) == before


async def test_form_acts_once_and_is_audited(database: Database, page: Acme) -> None:
    """A second click with the same token changes nothing."""
    token = new_token()
    for amount in ("5", "6"):
        await page.console.client.post(PATH, data={**EMPTY, "budget_day": amount, "idem": token})

    entries = await AuditLog(database).list(object_id=page.account_id, limit=9)
    changes = [each for each in entries if each.actor == "user:user_1"]
    assert (await Accounts(database).get(page.account_id)).own_budgets == Limits(
        budget_day_nanousd=5 * 10**9
    )
    assert [(e.action, (e.after or {}).get("own_budgets")) for e in changes] == [
        ("account.change", {"budget_day_nanousd": 5 * 10**9})
    ]


async def test_proof_must_be_recent(page: Acme) -> None:
    """Both the form and what it sends ask for the password again after ten minutes."""
    viewers = page.console.viewers
    assert viewers.viewer is not None
    viewers.viewer = msgspec.structs.replace(viewers.viewer, confirmed_at=1)

    answers = [
        await page.console.client.get(PATH),
        await page.console.client.post(PATH, data={**EMPTY, "idem": new_token()}),
    ]

    assert [each.headers["location"].partition("?")[0] for each in answers] == ["/confirm"] * 2


async def test_running_calls_without_redis_are_not_known(page: Acme) -> None:
    """The page says so instead of showing zero."""
    text = await page.get("/app/billing")

    assert "not known: Redis does not respond" in text
    assert "without what running calls hold" in text
