"""`/app/requests`."""

from __future__ import annotations

import csv
import io
import re

import pytest

from gateway.store.sql.database import Database
from tests.support.activity import EVIL, Acme, acme
from tests.support.booking import book_calls
from tests.support.reports import statements
from tests.support.usage import usage_event


@pytest.fixture
async def page(database: Database) -> Acme:
    """An account with three calls."""
    return await acme(database)


def shown_ids(text: str) -> list[str]:
    """Return the calls that a page links to."""
    return re.findall(r'href="/app/requests/(req_[^?"]+)', text)


async def test_page_lists_the_calls_newest_first(database: Database, page: Acme) -> None:
    """In two statements, to which the session's is added; another account's call is not there."""
    with statements(database) as ran:
        text = await page.get("/app/requests")

    assert shown_ids(text) == ["req_0", "req_1", "req_2"]
    assert len(ran) <= 2
    assert "upstream_broken" in text
    assert EVIL not in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("outcome=failures", ["req_1"]),
        ("model=kimi", ["req_0", "req_1"]),
        ("status=5xx", ["req_1"]),
        ("id=req_2", ["req_2"]),
        ("id=req_strange", []),
        ("min_cost=1", []),
        ("key=unknown", []),
    ],
)
async def test_filters_select_calls(page: Acme, query: str, found: list[str]) -> None:
    """Where none matches, the way back is a link."""
    text = await page.get(f"/app/requests?{query}")

    assert shown_ids(text) == found
    assert bool(found) or "Clear filters" in text


async def test_older_calls_are_a_link_away(database: Database, page: Acme) -> None:
    """Pages follow each other without gaps or repetitions."""
    at_ms = page.calls[-1].at_ms - 1
    more = [usage_event(f"req_a{n:02}", account_id=page.account_id, at_ms=at_ms) for n in range(60)]
    await book_calls(database, *more)

    first = await page.get("/app/requests")
    older = re.search(r'class="pager"><a[^>]* href="([^"]+)"', first)
    assert older is not None
    second = await page.get(older[1].replace("&amp;", "&"))

    assert len(shown_ids(first)) == 50
    assert len({*shown_ids(first), *shown_ids(second)}) == 63
    assert "To the newest" in second


async def test_button_says_how_many_calls_are_new(database: Database, page: Acme) -> None:
    """The list itself does not move."""
    text = await page.get("/app/requests")
    poll = re.search(r'hx-get="(/app/requests/new\?[^"]+)"', text)
    assert poll is not None
    path = poll[1].replace("&amp;", "&")
    before = await page.get(path)
    await book_calls(
        database,
        usage_event("req_new", account_id=page.account_id, at_ms=page.calls[0].at_ms + 5),
    )

    after = await page.get(path)

    assert "new requests" not in before
    assert "1 new request<" in after
    assert "before=" in after


async def test_download_has_all_calls_that_match(page: Acme) -> None:
    """Not only those of the page; it resumes by `before`."""
    text = await page.get("/app/requests?outcome=failures&format=csv")
    rest = await page.get(f"/app/requests?before={page.calls[0].at_ms}-req_0&format=csv")

    rows = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"), newline="")))
    assert [(row["request_id"], row["error_kind"]) for row in rows] == [
        ("req_1", "upstream_broken")
    ]
    assert rows[0]["key"] == rows[0]["user_agent"] == f"'{EVIL}"
    assert [row["request_id"] for row in csv.DictReader(io.StringIO(rest[1:]))] == [
        "req_1",
        "req_2",
    ]


async def test_columns_can_be_hidden(page: Acme) -> None:
    """The choice stays in the URL, and in the links to older and newer calls."""
    whole = await page.get("/app/requests")
    narrow = await page.get("/app/requests?hide-cost=1&hide-ttft=1&hide-nonsense=1")
    timed = await page.get("/app/requests?hide-total=1")

    assert ">First token</th>" in timed
    assert timed.count('data-label="First token"') == 3
    assert ">Total</th>" not in timed
    assert whole.count('data-label="Cost"') == 3
    assert 'data-label="Cost"' not in narrow
    assert "first " not in narrow[narrow.index("<tbody>") : narrow.index("</tbody>")]
    assert narrow.count(" tokens/s</span>") == whole.count(" tokens/s</span>") == 3
    assert 'name="hide-cost" value="1" checked' in narrow
    assert "hide-ttft=1&amp;hide-cost=1" in narrow
    assert "nonsense" not in narrow
