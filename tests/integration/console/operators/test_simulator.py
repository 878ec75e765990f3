"""The price simulator."""

from __future__ import annotations

import msgspec
import pytest

from gateway.console.operators.simulator import compare, simulate, toml_of
from gateway.settings import parse
from gateway.store.reports.usage import UsageSum
from gateway.store.sql.database import Database
from tests.support.booking import book_calls
from tests.support.operators import Operator, operator
from tests.support.reports import statements

PATH = "/admin-ui/margins/simulator"
PRICES = {
    "input": 10**9, "cache_read": 10**8, "cache_write": 0, "output": 2 * 10**9, "reasoning": 0,
}  # fmt: skip


@pytest.fixture
async def page(database: Database) -> Operator:
    return await operator(database)


def test_tokens_are_multiplied_by_their_prices() -> None:
    """A million tokens cost one price; parts of a nano-dollar are rounded up."""
    usage = UsageSum(calls=1, input=1_500_000, cache_read=10, output=500_000)

    assert simulate(usage, PRICES) == 1_500_000_000 + 1000 + 1_000_000_000
    assert simulate(UsageSum(input=1), {**PRICES, "input": 1}) == 1
    assert simulate(UsageSum(), PRICES) == 0


def test_margin_is_known_only_if_every_cost_is() -> None:
    """Otherwise it would mix charges of all calls with costs of some."""
    assert compare(UsageSum(calls=2, upstream_cost_nanousd=30), 100).margin_nanousd == 70
    assert compare(UsageSum(calls=2, calls_without_cost=1), 100).margin_nanousd is None
    assert compare(UsageSum(), 0).margin_nanousd is None


def test_lines_are_valid_configuration() -> None:
    """They can be pasted: a model with these prices."""
    text = toml_of('a "b"', PRICES) + '\ndeployments = [{ provider = "p", model = "m" }]\n'
    provider = '[[providers]]\nname = "p"\n[providers.openai]\nbase_url = "http://127.0.0.1:9/v1"\n'

    (model,) = parse(provider + text.replace('a \\"b\\"', "ab")).models

    assert (model.name, model.prices.input, model.prices.cache_read) == ("ab", "1.00", "0.10")


async def test_page_compares_the_last_days(database: Database, page: Operator) -> None:
    """
    Two calls of `kimi`: 2,000 in, 4,000 read from a cache, 600 out and 40 reasoning.

    A third one was not charged.
    """
    insured = msgspec.structs.replace(
        page.acme.calls[0], request_id="req_free", outcome="insured", cost_nanousd=0
    )
    await book_calls(database, insured)
    with statements(database) as ran:
        today = await page.get(f"{PATH}?model=kimi")
    other = await page.get(f"{PATH}?model=kimi&input=3&output=0&cache_read=0&reasoning=0")
    wrong = await page.get(f"{PATH}?model=kimi&input=-1")
    unused = await page.get(f"{PATH}?model=unknown")

    charged = sum(each.cost_nanousd for each in page.acme.calls if each.model == "kimi")
    assert len(ran) == 2
    assert f"${charged / 10**9:.6f}".rstrip("0") in today
    assert "$0.006" in other  # 2,000 tokens at $3 a million
    assert "input = &#34;3.00&#34;" in other
    assert "Enter dollars per million tokens, from 0 on." in wrong
    assert "kimi" in unused  # the first model
