"""`/admin-ui/system/upkeep`: what was set aside, requeuing it, and the check of all balances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.reconcile import Difference
from gateway.store.accounts.reconcile_runs import ReconcileRun
from gateway.store.sql.database import Database
from gateway.store.usage.dead_letters import DeadLetter, UnknownLetterError
from tests.support.operators import Operator, operator
from tests.support.usage import usage_event

PATH = "/admin-ui/system/upkeep"
EVIL = '<script>alert("1")</script>'
LETTERS = [
    DeadLetter(id="2-0", at_ms=2, reason=EVIL, event=usage_event("req_2", model=EVIL)),
    DeadLetter(id="1-0", at_ms=1, reason="not a usage event", event=None),
]
RUN = ReconcileRun(
    asked_by="operator:a", at=7, took_ms=12, accounts=3, entries=9, differences=1,
    shown=(
        Difference(
            check="balance", account_id="acct_1", subject="acct_1", expected_nanousd=5 * 10**9,
            found_nanousd=None,
        ),
    ),
)  # fmt: skip


class Upkeep:
    """Fixed letters and results."""

    def __init__(self) -> None:
        self.found: Sequence[DeadLetter] = LETTERS
        self.run: ReconcileRun | None = RUN
        self.away = self.pending = False
        self.sent: list[str] = []
        self.asked: list[str] = []

    async def letters(self, *, before: str = "", limit: int) -> Sequence[DeadLetter]:
        if self.away:
            raise GatewayError(ErrorKind.STORE_UNAVAILABLE, "Redis is unavailable.")
        return self.found

    async def letter_count(self) -> int:
        return len(self.found)

    async def last_reconcile(self) -> ReconcileRun | None:
        return self.run

    async def reconcile_pending(self) -> bool:
        return self.pending

    async def requeue(self, letter_id: str, by: Actor) -> DeadLetter:
        if letter_id == "9-9":
            raise UnknownLetterError(letter_id)
        self.sent.append(letter_id)
        return self.found[0]

    async def ask_reconcile(self, by: Actor) -> bool:
        self.asked.append(by.name)
        return True


@pytest.fixture
async def upkeep(database: Database) -> tuple[Operator, Upkeep]:
    page, fixed = await operator(database), Upkeep()
    page.acme.console.services.upkeep = cast("Any", fixed)
    return page, fixed


async def test_page_shows_reasons_and_differences(upkeep: tuple[Operator, Upkeep]) -> None:
    """Only events that can be read can be chosen."""
    page, _ = upkeep
    text = await page.get(PATH)

    assert text.count('name="letter"') == 1
    assert 'value="2-0"' in text
    assert EVIL not in text
    assert "not a usage event" in text
    assert "1 difference" in text
    assert "$5.00" in text


async def test_chosen_events_are_requeued_once(upkeep: tuple[Operator, Upkeep]) -> None:
    """A second click sends nothing; one that is gone says so."""
    page, fixed = upkeep
    idem = await page.idem(PATH)
    first = await page.post(f"{PATH}/requeue", idem=idem, letter="2-0")
    again = await page.post(f"{PATH}/requeue", idem=idem, letter="2-0")
    gone = await page.post(f"{PATH}/requeue", idem=await page.idem(PATH), letter="9-9")

    assert fixed.sent == ["2-0"]
    assert (first.status_code, again.status_code, gone.status_code) == (200, 303, 409)
    assert "1 event was sent to the ledger again." in first.text
    assert "was requeued, or is past its retention" in gone.text


async def test_check_is_asked_for_and_awaited(upkeep: tuple[Operator, Upkeep]) -> None:
    """While it runs there is no button, and the page looks for its result."""
    page, fixed = upkeep
    sent = await page.post(f"{PATH}/check", idem=await page.idem(PATH))
    fixed.pending = True
    text = await page.get(PATH)

    assert sent.status_code == 303
    assert fixed.asked == ["operator:user_1"]
    assert "every 3s" in text
    assert "Check now" not in text


async def test_page_says_that_redis_is_away(upkeep: tuple[Operator, Upkeep]) -> None:
    """And claims nothing of what it does not know."""
    page, fixed = upkeep
    fixed.away = True
    text = await page.get(PATH)

    assert "Redis does not respond." in text
    assert "Nothing is set aside" not in text
