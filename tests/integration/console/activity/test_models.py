"""`/app/models`."""

from __future__ import annotations

import re

import pytest

from gateway.store.sql.database import Database
from tests.support.activity import Acme, acme
from tests.support.reports import statements


@pytest.fixture
async def page(database: Database) -> Acme:
    """An account that used two models."""
    return await acme(database)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("", ["kimi", "deepseek-v4-flash"]),
        ("input", ["deepseek-v4-flash", "kimi"]),
        ("spent", ["kimi", "deepseek-v4-flash"]),
        ("nonsense", ["kimi", "deepseek-v4-flash"]),
    ],
)
async def test_page_lists_prices_and_what_was_used(
    database: Database, page: Acme, sort: str, order: list[str]
) -> None:
    """In one statement, to which the session's is added."""
    with statements(database) as ran:
        text = await page.get(f"/app/models?sort={sort}")

    assert re.findall(r'<span class="mono">([^<]+)</span>', text) == order
    assert len(ran) <= 1
    assert "$0.28" in text
    assert "model=kimi" in text
