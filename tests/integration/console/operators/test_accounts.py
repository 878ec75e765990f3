"""`/admin-ui/accounts` and the page of one account."""

from __future__ import annotations

import csv
import io
import json

import pytest

from gateway.console.operators import accounts as accounts_page
from gateway.core.money import dollars
from gateway.errors import ErrorKind, GatewayError
from gateway.operations.accounts import AccountOperations
from gateway.store.accounts.accounts import Accounts, Billing
from gateway.store.accounts.credits import Credits
from gateway.store.sql.database import Database
from tests.support.activity import EVIL
from tests.support.console import viewer
from tests.support.operators import Operator, operator
from tests.support.reports import statements

LIST = "/admin-ui/accounts"


@pytest.fixture
async def page(database: Database) -> Operator:
    return await operator(database)


async def test_list_shows_accounts_and_finds_them(database: Database, page: Operator) -> None:
    """Two statements beside the session's; names of clients are escaped."""
    await Accounts(database).create(EVIL)

    with statements(database) as ran:
        text = await page.get(LIST)
    found = await page.get(f"{LIST}?q=acm")
    nothing = await page.get(f"{LIST}?q=nobody")
    negative = await page.get(f"{LIST}?state=negative")

    assert len(ran) == 2
    assert EVIL not in text
    assert f'href="{LIST}/{page.acme.account_id}"' in found
    assert ">Other<" not in found
    assert "No account matches" in nothing
    assert "No account matches" in negative


async def test_long_list_continues(database: Database, page: Operator) -> None:
    """The link to older accounts keeps the filters."""
    for n in range(52):
        await Accounts(database).create(f"many {n}")

    first = await page.get(f"{LIST}?q=many")
    start = first.index('class="pager"')
    href = first[start:].split('href="')[1].split('"')[0].replace("&amp;", "&")
    second = await page.get(href)

    assert first.count(">many ") == 50
    assert second.count(">many ") == 2


async def test_what_is_shown_is_downloaded(page: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several steps, with the filters."""
    monkeypatch.setattr(accounts_page, "_BATCH", 1)
    text = await page.get(f"{LIST}?format=csv")
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(text[1:], newline=""))}
    some = json.loads(await page.get(f"{LIST}?format=json&q=acm"))

    charged = sum(call.cost_nanousd for call in page.acme.calls)
    acme = rows["Acme"]
    assert set(rows) == {"Acme", "Other"}
    assert (acme["id"], acme["billing"], acme["keys"]) == (page.acme.account_id, "prepaid", "1")
    assert (acme["charged_30_days_usd"], acme["credit_limit_usd"]) == (dollars(charged), "")
    assert [each["name"] for each in some] == ["Acme"]


async def test_account_is_created_once(database: Database, page: Operator) -> None:
    """A double click makes one; the audit log names the operator."""
    form = {"name": "Initech", "billing": "postpaid", "credit_limit": "1,000.50",
            "idem": await page.idem(LIST)}  # fmt: skip

    made = await page.post(LIST, **form)
    again = await page.post(LIST, **form)

    (account,) = await Accounts(database).list(name="Initech")
    assert (made.status_code, made.headers["location"]) == (303, f"{LIST}/{account.id}")
    assert again.headers["location"] == LIST
    assert account.terms.credit_limit_nanousd == 1000_500_000_000
    assert [each.actor for each in await page.changes(account.id)] == ["operator:user_1"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": " ", "billing": "prepaid"}, "Enter a name"),
        ({"name": "x", "billing": "postpaid", "credit_limit": "much"}, "Enter dollars from 0 on"),
        ({"name": "x", "billing": "postpaid", "credit_limit": "-1"}, "Enter dollars from 0 on"),
    ],
)
async def test_account_with_a_wrong_field_is_not_created(
    database: Database, page: Operator, fields: dict[str, str], message: str
) -> None:
    """The error stands at the field, and what was entered stays."""
    response = await page.post(LIST, **fields, idem=await page.idem(LIST))

    assert response.status_code == 422
    assert message in response.text
    assert await Accounts(database).list(name="x") == []


async def test_account_shows_money_terms_and_people(database: Database, page: Operator) -> None:
    """Within the budget of six statements, the session's included."""
    path = f"{LIST}/{page.acme.account_id}"

    with statements(database) as ran:
        text = await page.get(path)

    assert len(ran) <= 5
    assert "$10.00" in text  # the top-up
    assert "invoice 7" in text
    assert f'href="/admin-ui/requests/{page.acme.calls[0].request_id}"' in text
    await page.get(f"{LIST}/acct_unknown", 404)


async def test_credit_is_booked_once_with_its_reason(database: Database, page: Operator) -> None:
    """Two clicks on one form: one entry."""
    path = f"{LIST}/{page.acme.account_id}"
    form = {"kind": "topup", "amount": "25", "reason": "invoice 8", "idem": await page.idem(path)}

    responses = [await page.post(f"{path}/credits", **form) for _ in range(2)]

    entries = await Credits(database).entries(page.acme.account_id, limit=50)
    booked = [each for each in entries if each.reason == "invoice 8"]
    assert [each.status_code for each in responses] == [303, 303]
    assert [(each.kind.value, each.amount_nanousd, each.actor) for each in booked] == [
        ("topup", 25 * 10**9, "operator:user_1")
    ]
    shown = await page.get(responses[1].headers["location"])
    balance = booked[0].balance_after_nanousd
    assert f"$25.00 was booked. The balance after it is ${dollars(balance)}." in shown
    assert "was booked" not in await page.get(path)


async def test_booking_that_failed_is_done_by_sending_the_form_again(
    database: Database, page: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the form was received before; without its token it is refused."""
    path = f"{LIST}/{page.acme.account_id}"
    form = {"kind": "topup", "amount": "5", "reason": "invoice 9", "idem": await page.idem(path)}

    async def fails(*_args: object, **_kwargs: object) -> None:
        raise GatewayError(ErrorKind.STORE_UNAVAILABLE, "made")

    with monkeypatch.context() as patched:
        patched.setattr(AccountOperations, "book", fails)
        failed = await page.post(f"{path}/credits", **form)
    again = await page.post(f"{path}/credits", **form)
    without = await page.post(f"{path}/credits", **{**form, "idem": ""})

    entries = await Credits(database).entries(page.acme.account_id, limit=50)
    assert [each.status_code for each in (failed, again, without)] == [503, 303, 422]
    assert len([each for each in entries if each.reason == "invoice 9"]) == 1


async def test_adjustment_may_take_money_back(database: Database, page: Operator) -> None:
    """A top-up may not."""
    path = f"{LIST}/{page.acme.account_id}"
    before = await Accounts(database).get(page.acme.account_id)

    refused = await page.post(f"{path}/credits", kind="topup", amount="-1", reason="x",
                              idem=await page.idem(path))  # fmt: skip
    done = await page.post(f"{path}/credits", kind="adjustment", amount="-1.5", reason="x",
                           idem=await page.idem(path))  # fmt: skip

    after = await Accounts(database).get(page.acme.account_id)
    assert (refused.status_code, done.status_code) == (422, 303)
    assert "take money back with an adjustment" in refused.text
    assert after.balance_nanousd - before.balance_nanousd == -1_500_000_000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"amount": "ten", "reason": "x"}, "Enter dollars, such as 25"),
        ({"amount": "", "reason": "x"}, "Enter dollars, such as 25"),
        ({"amount": "5", "reason": ""}, "Say why"),
        ({"amount": "2000000", "reason": "x"}, "cannot be booked"),
    ],
)
async def test_credit_with_a_wrong_field_moves_nothing(
    database: Database, page: Operator, fields: dict[str, str], message: str
) -> None:
    """Nothing that was entered is lost."""
    path = f"{LIST}/{page.acme.account_id}"
    before = await Accounts(database).get(page.acme.account_id)

    response = await page.post(f"{path}/credits", kind="topup", **fields,
                               idem=await page.idem(path))  # fmt: skip

    after = await Accounts(database).get(page.acme.account_id)
    assert response.status_code in (409, 422)
    assert message in response.text
    assert f'value="{fields["amount"]}"' in response.text
    assert after.balance_nanousd == before.balance_nanousd


async def test_money_moves_only_after_a_confirmation(page: Operator) -> None:
    """Ten minutes after the password, it is asked for again."""
    path = f"{LIST}/{page.acme.account_id}"
    page.acme.console.viewers.viewer = viewer(page.acme.account_id, is_operator=True)

    response = await page.post(f"{path}/credits", kind="topup", amount="1", reason="x")

    assert response.status_code == 303
    assert response.headers["location"].startswith("/confirm")


async def test_terms_and_limits_are_changed(database: Database, page: Operator) -> None:
    """An empty field removes a limit; each change is audited."""
    path, account_id = f"{LIST}/{page.acme.account_id}", page.acme.account_id

    await page.post(f"{path}/terms", name="Acme Ltd", billing="postpaid", credit_limit="50",
                    trusted="1")  # fmt: skip
    await page.post(f"{path}/limits", rpm="60", budget_day="2.5")
    changed = await Accounts(database).get(account_id)
    await page.post(f"{path}/limits", rpm="")
    wrong = await page.post(f"{path}/limits", rpm="0", budget_day="x")
    cleared = await Accounts(database).get(account_id)

    assert (changed.name, changed.terms.billing, changed.trusted) == (
        "Acme Ltd", Billing.POSTPAID, True,
    )  # fmt: skip
    assert (changed.limits.rpm, changed.limits.budget_day_nanousd) == (60, 2_500_000_000)
    assert cleared.limits.rpm is None
    assert wrong.status_code == 422
    assert "Enter a whole number from 1 on." in wrong.text
    assert "Enter dollars from 0 on" in wrong.text
    assert len(await page.changes(account_id)) >= 4


async def test_invitation_is_shown_once(page: Operator) -> None:
    """The link is in the response of the form only."""
    path = f"{LIST}/{page.acme.account_id}"

    made = await page.post(f"{path}/invite", role="owner", idem=await page.idem(path))

    assert made.status_code == 200
    assert "/invite#" in made.text
    assert "/invite#" not in await page.get(path)
