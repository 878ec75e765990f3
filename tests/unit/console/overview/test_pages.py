"""What the overview points out."""

from __future__ import annotations

from gateway.console.keys.list_line import KeyLine, key_line
from gateway.console.overview.pages import Notice, Spending, notices
from gateway.core.limits import KeyLimits
from gateway.store.accounts.accounts import Account, Billing, Terms
from gateway.store.keys.activity import KeyActivity
from gateway.store.keys.repository import KeyRow

USD = 10**9
NOW = 1_800_000_000


def key(name: str, spent_usd: int = 0, *, expires_at: int | None = None) -> KeyLine:
    """A key with a budget of ten dollars a day."""
    row = KeyRow(
        id=f"key_{name}",
        account_id="acct_1",
        name=name,
        prefix="sk-",
        last_four="abcd",
        state="active",
        version=1,
        created_at=NOW,
        changed_at=NOW,
        limits=KeyLimits(budget_day_nanousd=10 * USD),
        expires_at=expires_at,
    )
    return key_line(row, KeyActivity(day_nanousd=spent_usd * USD), NOW)


def account(usd: int, terms: Terms = Terms()) -> Account:  # noqa: B008 -- frozen
    """An account with a balance."""
    return Account("acct_1", "Acme", NOW, terms, balance_nanousd=usd * USD)


def test_a_balance_is_low_below_three_days_and_then_used_up() -> None:
    owing = Terms(Billing.POSTPAID)

    assert notices(account(5), 3, [], []) == []
    assert notices(account(5), None, [], []) == []
    assert notices(account(5), 2, [], []) == [Notice("low")]
    assert notices(account(0), 0, [], []) == [Notice("balance")]
    assert notices(account(-5), 0, [], []) == [Notice("balance")]
    assert notices(account(-5, owing), None, [], []) == []


def test_budgets_are_pointed_out_from_four_fifths() -> None:
    """That of the account once, those of keys each; no budget is none."""
    below = [Spending("day", 79, 100), Spending("month", 80, None)]
    above = [Spending("day", 80, 100), Spending("month", 100, 100)]
    keys = [key("a", 7), key("b", 8), key("c", 12)]

    assert notices(account(5), None, below, keys) == [
        Notice("budget", "b", "key_b"),
        Notice("budget", "c", "key_c"),
    ]
    assert notices(account(5), None, above, []) == [Notice("account")]


def test_keys_are_pointed_out_in_their_last_week() -> None:
    """Expired ones no more, also those with a spent budget."""
    keys = [
        key("soon", expires_at=NOW + 6 * 86_400),
        key("later", expires_at=NOW + 8 * 86_400),
        key("over", 12, expires_at=NOW - 1),
    ]

    assert notices(account(5), None, [], keys) == [Notice("expires", "soon", "key_soon")]
