"""What these pages share: the viewer's zone, names of keys, and downloads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from starlette.responses import Response, StreamingResponse

from gateway.console.reporting.downloads import ExportRow, stream_csv, stream_json
from gateway.console.reporting.filters import CallsFilter, Dates, Outcome, Range
from gateway.console.reporting.zones import QUARTER_S, Period, read_zone
from gateway.console.web.page import Page
from gateway.store.reports.directory import Directory

MAX_KEYS = 1000
_ZONES = (
    "UTC", "America/Los_Angeles", "America/New_York", "America/Sao_Paulo", "Europe/London",
    "Europe/Berlin", "Europe/Moscow", "Asia/Kolkata", "Asia/Singapore", "Asia/Shanghai",
    "Asia/Tokyo", "Australia/Sydney",
)  # fmt: skip
FAILURES = ("failed", "insured")


def viewer_zone(page: Page) -> ZoneInfo | None:
    """Return the zone of the viewer's settings, else that of the browser; None: unknown."""
    chosen = page.viewer.time_zone
    return read_zone(chosen or unquote(page.request.cookies.get("zone", "")))


def zone_options(*zones: ZoneInfo | None) -> list[tuple[str, str]]:
    """Return the zones of a select: those given, then common ones."""
    names = dict.fromkeys([*(zone.key for zone in zones if zone is not None), *_ZONES])
    return [(name, name.replace("_", " ")) for name in names]


async def key_names(page: Page) -> dict[str, str]:
    """Return the names of the account's keys, by id."""
    rows = await page.services.keys.list(page.account.account_id, limit=MAX_KEYS)
    return {row.id: row.name for row in rows}


async def actor_names(page: Page, actors: Iterable[str | None]) -> dict[str, str]:
    """Return the names of those actors of the audit log that are people; one statement."""
    ids = {each: user_id(each) for each in actors if each is not None}
    people = {each for each in ids.values() if each}
    names = await Directory(page.services.database).user_names(people) if people else {}
    return {actor: names[each] for actor, each in ids.items() if each in names}


def user_id(actor: str) -> str:
    """Return the id of the user that an actor is; empty: a command or a program."""
    kind, _, name = actor.partition(":")
    return name if kind in ("user", "operator") else ""


def outcomes_of(outcome: Outcome | None) -> tuple[str, ...]:
    """Return the outcomes of calls that a filter selects; none: all."""
    if outcome is None:
        return ()
    return FAILURES if outcome is Outcome.ANY_FAILURE else (outcome.value,)


def period_ms(period: Period) -> tuple[int, int]:
    """Return the start and the exclusive end of a period in Unix milliseconds."""
    return period.start * QUARTER_S * 1000, period.end * QUARTER_S * 1000


def calls_href(period: Period, **fields: object) -> str:
    """Return the path of the list of the calls of a period, narrowed by fields of CallsFilter."""
    dates = Dates(range=Range.CUSTOM, zone=period.zone, since=period.first, until=period.last)
    return f"/app/requests?{CallsFilter(dates=dates).query(**fields)}"


def download(
    page: Page, name: str, columns: Sequence[str], rows: AsyncIterator[ExportRow]
) -> Response | None:
    """Return the rows as the file that `format` of the URL asks for; None: it asks for none."""
    kind = page.query("format")
    if kind not in ("csv", "json"):
        return None
    content = stream_csv(columns, rows) if kind == "csv" else stream_json(columns, rows)
    return StreamingResponse(
        content,
        media_type="text/csv; charset=utf-8" if kind == "csv" else "application/json",
        headers={
            "content-disposition": f'attachment; filename="{name}.{kind}"',
            "cache-control": "no-store",
        },
    )


async def each(rows: Iterable[ExportRow]) -> AsyncIterator[ExportRow]:
    """Yield rows that are in memory."""
    for row in rows:
        yield row
