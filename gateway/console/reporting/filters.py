"""
Filters of reports and lists in URLs.

Absent parameters have defaults, and invalid ones are ignored, so that old links still open. Only
values that differ from the defaults are written, so that equal filters have equal URLs.
"""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Mapping
from typing import Any, Self, TypeVar
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import msgspec

from gateway.console.reporting.zones import MAX_DAYS, Period, clamp, read_zone, today
from gateway.core.money import decimal_text, read_dollars

LONGEST_VALUE = 200
MAX_LIST_DAYS = 31
"""The longest period of a list of calls."""
UTC = ZoneInfo("UTC")
_E = TypeVar("_E", bound=enum.Enum)
_D = TypeVar("_D")


class Range(enum.Enum):
    """A period that ends today, or one between two dates."""

    TODAY = "today"
    WEEK = "7d"
    FOUR_WEEKS = "28d"
    QUARTER = "90d"
    MONTH = "month"
    CUSTOM = "custom"


class Grouping(enum.Enum):
    """How the usage table is grouped."""

    MODEL = "model"
    KEY = "key"
    DAY = "day"
    ENDPOINT = "endpoint"
    OUTCOME = "outcome"


class Metric(enum.Enum):
    """What the usage plot shows."""

    SPEND = "spend"
    CALLS = "calls"
    TOKENS = "tokens"
    CACHE = "cache"
    TTFT_P50 = "ttft-p50"
    TTFT_P95 = "ttft-p95"


class Outcome(enum.Enum):
    """The outcomes that a list can be restricted to."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DRAINED = "drained"
    FAILED = "failed"
    INSURED = "insured"
    ABANDONED = "abandoned"
    ANY_FAILURE = "failures"
    """Failed or insured."""


_DAYS = {Range.TODAY: 1, Range.WEEK: 7, Range.FOUR_WEEKS: 28, Range.QUARTER: 90}
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")
_STATUS = re.compile(r"[1-5](?:xx|[0-9]{2})\Z")


class Dates(msgspec.Struct, frozen=True, kw_only=True):
    """
    A period in a zone, from `range`, `since`, `until` and `zone` of a URL.

    `since` and `until` are the first and the last day; they count only for a custom range.
    """

    range: Range
    zone: ZoneInfo
    since: datetime.date | None = None
    until: datetime.date | None = None

    def period(self, now_s: float, most_days: int = MAX_DAYS) -> Period:
        """Return the days, the last ones if there are more than `most_days`."""
        day = today(now_s, self.zone)
        if self.range is Range.MONTH:
            first, last = day.replace(day=1), day
        elif self.range is Range.CUSTOM:
            last = clamp(self.until or day)
            first = min(clamp(self.since or last), last)
        else:
            first, last = day - datetime.timedelta(days=_DAYS[self.range] - 1), day
        earliest = last - datetime.timedelta(days=most_days - 1)
        return Period(max(first, earliest), last, self.zone)


class UsageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What the usage page shows."""

    dates: Dates
    group: Grouping = Grouping.MODEL
    metric: Metric = Metric.SPEND
    key: str = ""
    model: str = ""
    endpoint: str = ""
    outcome: Outcome | None = None

    @classmethod
    def read(cls, query: Mapping[str, str], zone: ZoneInfo | None = None) -> Self:
        """Return the filter of a URL; `zone` is that of the viewer."""
        return cls(
            dates=_read_dates(query, Range.FOUR_WEEKS, zone),
            group=_choice(Grouping, query.get("group", ""), Grouping.MODEL),
            metric=_choice(Metric, query.get("metric", ""), Metric.SPEND),
            key=_text(query, "key"),
            model=_text(query, "model"),
            endpoint=_text(query, "endpoint"),
            outcome=_choice(Outcome, query.get("outcome", ""), None),
        )

    def query(self, **changes: Any) -> str:
        """Return the query string, with some fields changed."""
        changed = msgspec.structs.replace(self, **changes)
        fields = _date_fields(changed.dates, Range.FOUR_WEEKS)
        fields["group"] = "" if changed.group is Grouping.MODEL else changed.group.value
        fields["metric"] = "" if changed.metric is Metric.SPEND else changed.metric.value
        fields |= {"key": changed.key, "model": changed.model, "endpoint": changed.endpoint}
        fields["outcome"] = changed.outcome.value if changed.outcome else ""
        return _encode(fields)


class MarginGroup(enum.Enum):
    """How the table of margins is grouped."""

    MODEL = "model"
    DEPLOYMENT = "deployment"
    ACCOUNT = "account"
    DAY = "day"


class MarginFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The filters of the margins page."""

    dates: Dates
    group: MarginGroup = MarginGroup.MODEL

    @classmethod
    def read(cls, query: Mapping[str, str], zone: ZoneInfo | None = None) -> Self:
        """Return the filter of a URL; `zone` is that of the viewer."""
        return cls(
            dates=_read_dates(query, Range.FOUR_WEEKS, zone),
            group=_choice(MarginGroup, query.get("group", ""), MarginGroup.MODEL),
        )

    def query(self) -> str:
        """Return the query string."""
        fields = _date_fields(self.dates, Range.FOUR_WEEKS)
        fields["group"] = "" if self.group is MarginGroup.MODEL else self.group.value
        return _encode(fields)


class ChangesFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which changes the audit log shows. `since` and `until` are days of the viewer's zone."""

    object_id: str = ""
    actor: str = ""
    action: str = ""
    since: datetime.date | None = None
    until: datetime.date | None = None

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """Return the filter of a URL."""
        return cls(
            object_id=_text(query, "object").strip(),
            actor=_text(query, "actor").strip(),
            action=_text(query, "action").strip(),
            since=_date(query.get("since", "")),
            until=_date(query.get("until", "")),
        )

    def query(self) -> str:
        """Return the query string."""
        return _encode(
            {
                "object": self.object_id,
                "actor": self.actor,
                "action": self.action,
                "since": self.since.isoformat() if self.since else "",
                "until": self.until.isoformat() if self.until else "",
            }
        )


HIDABLE = ("key", "in", "cached", "out", "ttft", "total", "rate", "cost", "stream")
"""Columns of the list of requests that a viewer can hide."""


class CallsFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls the list of requests shows."""

    dates: Dates
    key: str = ""
    model: str = ""
    endpoint: str = ""
    outcome: Outcome | None = None
    status: str = ""
    """An HTTP status, or a class such as `4xx`."""
    min_cost_nanousd: int = 0
    request_id: str = ""
    before: str = ""
    """The last row of the page before, see `Cursor`."""
    hidden: frozenset[str] = frozenset()
    """Columns of HIDABLE that the list does not show."""

    @classmethod
    def read(cls, query: Mapping[str, str], zone: ZoneInfo | None = None) -> Self:
        """Return the filter of a URL; `zone` is that of the viewer."""
        status, request_id = query.get("status", "").lower(), query.get("id", "").strip()
        return cls(
            dates=_read_dates(query, Range.WEEK, zone),
            key=_text(query, "key"),
            model=_text(query, "model"),
            endpoint=_text(query, "endpoint"),
            outcome=_choice(Outcome, query.get("outcome", ""), None),
            status=status if _STATUS.match(status) else "",
            min_cost_nanousd=_amount(query.get("min_cost", "")),
            request_id=request_id if _REQUEST_ID.match(request_id) else "",
            before=_text(query, "before"),
            hidden=frozenset(name for name in HIDABLE if query.get(f"hide-{name}")),
        )

    def query(self, **changes: Any) -> str:
        """Return the query string, with some fields changed."""
        changed = msgspec.structs.replace(self, **changes)
        cost = changed.min_cost_nanousd
        return _encode(
            {
                **_date_fields(changed.dates, Range.WEEK),
                "key": changed.key,
                "model": changed.model,
                "endpoint": changed.endpoint,
                "outcome": changed.outcome.value if changed.outcome else "",
                "status": changed.status,
                "min_cost": plain_dollars(cost) if cost else "",
                "id": changed.request_id,
                "before": changed.before,
                **{f"hide-{name}": "1" for name in HIDABLE if name in changed.hidden},
            }
        )

    @property
    def is_narrowed(self) -> bool:
        """Whether anything but the period selects calls."""
        return any(
            (
                self.key, self.model, self.endpoint, self.outcome, self.status,
                self.min_cost_nanousd, self.request_id,
            )
        )  # fmt: skip


class Cursor(msgspec.Struct, frozen=True):
    """The place of a row in a list that is ordered by time and id, newest first."""

    at_ms: int
    id: str

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return the cursor of a URL; None: there is none, or it cannot be read."""
        time, separator, name = text.partition("-")
        if not separator or not time.isascii() or not time.isdigit() or len(time) > 15:
            return None
        return cls(int(time), name)

    def __str__(self) -> str:
        return f"{self.at_ms}-{self.id}"


def plain_dollars(nanousd: int) -> str:
    """Return dollars for a field of a form: `0.05`, `2`."""
    return decimal_text(nanousd, 9, at_least=0)


def _read_dates(query: Mapping[str, str], default: Range, zone: ZoneInfo | None) -> Dates:
    since, until = _date(query.get("since", "")), _date(query.get("until", ""))
    chosen = _choice(Range, query.get("range", ""), default)
    if chosen is not Range.CUSTOM:
        since = until = None
    elif since is None and until is None:
        chosen = default
    return Dates(
        range=chosen,
        zone=read_zone(query.get("zone", "")) or zone or UTC,
        since=since,
        until=until,
    )


def _date_fields(dates: Dates, default: Range) -> dict[str, str]:
    return {
        "range": "" if dates.range is default else dates.range.value,
        "since": dates.since.isoformat() if dates.since else "",
        "until": dates.until.isoformat() if dates.until else "",
        "zone": dates.zone.key,
    }


def _encode(fields: Mapping[str, str]) -> str:
    return urlencode({name: value for name, value in fields.items() if value})


def _choice(choices: type[_E], value: str, default: _D) -> _E | _D:
    try:
        return choices(value)
    except ValueError:
        return default


def _text(query: Mapping[str, str], name: str) -> str:
    value = query.get(name, "")
    return value if len(value) <= LONGEST_VALUE and value.isprintable() else ""


def _date(text: str) -> datetime.date | None:
    try:
        return clamp(datetime.date.fromisoformat(text))
    except ValueError:
        return None


def _amount(text: str) -> int:
    try:
        return max(read_dollars(text.strip()), 0)
    except ValueError:
        return 0
