"""
A service to look at: accounts, keys, calls and people as they usually are, and as long as can be.

`fill_usual` is what the pictures of the README show. `fill_overlong` is what pages must bear:
names of 200 characters, amounts of 15 digits, many models, long addresses.
"""

from __future__ import annotations

import random
import time
from typing import NamedTuple

from gateway.core.catalogue import build
from gateway.core.limits import KeyLimits, Limits
from gateway.core.model import AttemptRecord, CallRecord, Usage
from gateway.core.pricing import cost_nanousd
from gateway.settings import Settings, parse
from gateway.store.accounts.accounts import Accounts, Billing, Terms
from gateway.store.accounts.audit import SYSTEM, Actor
from gateway.store.accounts.codes import CodeDetails, Codes
from gateway.store.accounts.credits import Credits
from gateway.store.announcements.incidents import Incidents, IncidentState
from gateway.store.announcements.notices import NoticeLevel, Notices
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.people.sessions import Lifetimes, Sessions
from gateway.store.people.users import User, Users
from gateway.store.sql.database import Database
from tests.support.booking import book_calls
from tests.support.usage import usage_event

DAY_MS = 86_400_000
DOLLAR = 10**9
BATCH = 200
LONGEST_NAME = "Research and development of " + "unabbreviatable" * 6 + " " + "departments, " * 6
WORD = "supercalifragilisticexpialidocious"
LONG_NAME = (WORD * 6)[:200]
LONG_LOGIN = f"{'a-rather-long-first-name.and-a-longer-last-name' * 3}@mail.{'example-' * 8}org"[
    :200
]
LONG_MODEL = ("an-open-model-with-a-very-long-name-of-its-own-" * 4)[:120]
PROVIDERS = """
[[providers]]
name = "deepseek"
[providers.openai]
base_url = "http://127.0.0.1:%(port)d/v1"
[providers.anthropic]
base_url = "http://127.0.0.1:%(port)d"

[[providers]]
name = "openrouter"
[providers.openai]
base_url = "http://127.0.0.1:%(port)d/v1"
"""
MODEL = """
[[models]]
name = "%(name)s"
context = %(context)d
max_output = %(output)d
tags = %(tags)s
prices = { input = "%(input)s", output = "%(out)s", cache_read = "%(read)s" }
deployments = [
  { provider = "deepseek", model = "%(name)s", cost = { input = "%(cost)s", output = "%(out)s" } },
  { provider = "openrouter", model = "vendor/%(name)s", priority = 1 },
]
"""


class Kind(NamedTuple):
    """A model of the catalogue, and its share of the calls."""

    name: str
    context: int
    output: int
    input: str
    out: str
    read: str
    cost: str
    tags: list[str]
    share: int


USUAL_MODELS = (
    Kind("deepseek-v4-flash", 1_000_000, 393_216, "0.14", "0.28", "0.014", "0.07", ["budget"], 44),
    Kind("deepseek-v4-pro", 1_000_000, 393_216, "1.74", "3.48", "0.145", "1.2", ["flagship"], 24),
    Kind("kimi-k3", 262_144, 65_536, "0.60", "2.50", "0.15", "0.45", ["flagship"], 16),
    Kind("glm-5", 204_800, 131_072, "0.40", "1.75", "0.08", "0.30", [], 9),
    Kind("MiniMax-M3", 1_000_000, 64_000, "0.30", "1.20", "0.03", "0.2", ["long-context"], 7),
)
LONG_MODELS = (
    *USUAL_MODELS,
    Kind(LONG_MODEL, 100_000_000, 10_000_000, "1234.567891", "98765.4321", "0.000001", "0.1",
         ["flagship", "long-context", "budget", "a-tag-as-long-as-tags-may-be"], 30),
    *(Kind(f"vendor-{n}/model-{n}-of-many-with-a-date-2027-{n:02}-01", 131_072, 8_192, "0.5", "1.5",
           "0.05", "0.4", ["budget"], 2) for n in range(1, 21)),
)  # fmt: skip


def catalogue(models: tuple[Kind, ...], port: int) -> str:
    """Return the TOML of providers and models."""
    text = PROVIDERS % {"port": port}
    for each in models:
        text += MODEL % {**each._asdict(), "tags": str(each.tags).replace("'", '"')}
    return text


class Shown(NamedTuple):
    """Who to be, and what to look at."""

    token: str
    """Of an operator's session, who owns the account."""
    account_id: str
    key_id: str
    failed_id: str
    """Of a request."""
    completed_id: str


class Showcase:
    """
    Fills a database.

    Args:
        database: Migrated and empty.
        settings: With the models of `catalogue`.
        models: The same.
        now_ms: The end of the calls.
    """

    def __init__(
        self, database: Database, settings: Settings, models: tuple[Kind, ...], now_ms: int
    ) -> None:
        self.database, self.settings, self.models, self.now_ms = database, settings, models, now_ms
        self.users, self.accounts, self.credits = (
            Users(database), Accounts(database), Credits(database),
        )  # fmt: skip
        self.keys = Keys(database, settings.brand.key_prefix)
        self.chance = random.Random(7)
        self.prices = build(settings, {}).names

    async def operator(self, login: str, name: str, account_name: str) -> tuple[User, str]:
        user = await self.users.create(login, name, is_operator=True)
        account = await self.accounts.create(account_name, by=Actor(f"operator:{user.id}"))
        await self.users.join(user.id, account.id, "owner", SYSTEM)
        return user, account.id

    async def session(self, user: User) -> str:
        return await Sessions(self.database, Lifetimes(10**6, 10**6)).begin(user, "Firefox, Linux")

    async def key(self, account_id: str, name: str, by: str, **details: object) -> str:
        made = KeyDetails(name=name, **details)  # type: ignore[arg-type]
        return (await self.keys.create(account_id, made, by=Actor(f"user:{by}"))).row.id

    async def calls(
        self, account_id: str, keys: list[str], *, per_day: int, days: int = 28
    ) -> list[CallRecord]:
        """Book calls, more on weekdays and in office hours; return them, oldest first."""
        made: list[CallRecord] = []
        for day in range(days, -1, -1):
            start = self.now_ms // DAY_MS * DAY_MS - day * DAY_MS
            is_weekend = (start // DAY_MS + 3) % 7 > 4
            count = round(per_day * self.chance.uniform(0.7, 1.3) * (0.3 if is_weekend else 1))
            for _ in range(count):
                hour = min(23.99, max(0.0, self.chance.gauss(13, 3.5)))
                at_ms = start + int(hour * 3_600_000)
                if at_ms < self.now_ms:
                    made.append(self.call(account_id, self.chance.choice(keys), at_ms))
        made.sort(key=lambda each: each.at_ms)
        for at in range(0, len(made), BATCH):
            await book_calls(self.database, *made[at : at + BATCH])
        return made

    def call(self, account_id: str, key_id: str, at_ms: int) -> CallRecord:
        """Return a call of a coding agent: long cached prompts, short replies, few failures."""
        chance = self.chance
        model = chance.choices(self.models, [each.share for each in self.models])[0]
        usage = Usage(
            input=int(chance.lognormvariate(7.6, 1)),
            cache_read=int(chance.lognormvariate(10.4, 0.9)) if chance.random() < 0.85 else 0,
            output=int(chance.lognormvariate(6, 0.9)),
            reasoning=int(chance.lognormvariate(5.5, 1)) if chance.random() < 0.4 else 0,
        )
        is_failed = chance.random() < 0.012
        is_cancelled = chance.random() < 0.03
        first = int(chance.lognormvariate(6.4, 0.5))
        changes: dict[str, object] = {}
        if is_failed:
            usage = Usage()
            changes = {
                "status": 502, "outcome": "failed", "error_kind": "upstream_broken",
                "ttft_ms": None, "attempts": 2, "duration_ms": first * 3,
                "chain": (
                    AttemptRecord(f"deepseek/{model.name}", model.name, "rate_limited", 429, first),
                    AttemptRecord(f"openrouter/vendor/{model.name}", model.name, "interrupted",
                                  200, first * 2),
                ),
            }  # fmt: skip
        elif is_cancelled:
            changes = {"outcome": "cancelled", "estimated": True}
        return usage_event(
            f"req_{chance.randbytes(10).hex()}",
            **{
                "at_ms": at_ms, "account_id": account_id, "key_id": key_id, "model": model.name,
                "provider": "deepseek", "upstream_model": model.name, "usage": usage,
                "endpoint": chance.choices(("chat_completions", "messages", "responses"),
                                           (3, 5, 2))[0],
                "cost_nanousd": cost_nanousd(usage, self.prices[model.name].prices),
                "upstream_cost_nanousd": cost_nanousd(usage, self.prices[model.name].prices) * 7
                // 10,
                "ttft_ms": first, "duration_ms": first + usage.output * 12 + 400,
                "user_agent": chance.choice(("claude-cli/2.1.40", "codex/0.88.1", "opencode/1.4")),
                **changes,
            },
        )  # fmt: skip


async def fill_usual(database: Database, settings: Settings) -> Shown:
    """Fill the service of a small company with some customers."""
    now_ms = int(time.time() * 1000)
    show = Showcase(database, settings, USUAL_MODELS, now_ms)
    user, account = await show.operator("ada@example.com", "Ada Lovelace", "Analytical Engines")
    by = Actor(f"operator:{user.id}")
    for login, name, role in (
        ("charles@example.com", "Charles Babbage", "owner"),
        ("grace@example.com", "Grace Hopper", "member"),
        ("alan@example.com", "Alan Turing", "viewer"),
    ):
        other = await show.users.create(login, name)
        await show.users.join(other.id, account, role, by)
    soon = now_ms // 1000 + 5 * 86_400
    keys = [
        await show.key(account, "Ada's laptop", user.id, limits=KeyLimits(rpm=600)),
        await show.key(account, "Claude Code", user.id,
                       limits=KeyLimits(budget_month_nanousd=60 * DOLLAR)),
        await show.key(account, "CI", user.id, expires_at=soon, models=["deepseek-v4-flash"],
                       limits=KeyLimits(rpm=60, concurrency=4, budget_day_nanousd=5 * DOLLAR)),
        await show.key(account, "support bot", user.id),
    ]  # fmt: skip
    await show.key(account, "playground", user.id, origin="playground")
    await show.keys.disable(await show.key(account, "old laptop", user.id), by=by)
    await show.credits.topup(account, 250 * DOLLAR, by, reason="invoice 2027-014")
    calls = await show.calls(account, keys, per_day=260)
    await show.credits.topup(account, 50 * DOLLAR, by, reason="invoice 2027-022")
    await show.accounts.change(
        account, by, limits=Limits(rpm=2000, budget_month_nanousd=400 * DOLLAR)
    )
    for name, money, per_day in (
        ("Difference Labs", 120, 90), ("Jacquard Weaving", 40, 30), ("Note G", 5, 0),
        ("Harvard Mark", 0, 12),
    ):  # fmt: skip
        terms = Terms() if money else Terms(Billing.POSTPAID, 500 * DOLLAR)
        customer = (await show.accounts.create(name, terms, by=by)).id
        if money:
            await show.credits.topup(customer, money * DOLLAR, by, reason="card payment")
        if per_day:
            await show.calls(customer, [await show.key(customer, "main", user.id)], per_day=per_day)
    await Codes(database).create(CodeDetails(amount_nanousd=10 * DOLLAR, note="workshop"), by, 8)
    incident = await Incidents(database).open(
        "Slow first tokens from Kimi", "We see first tokens after more than ten seconds.",
        ["kimi-k3"], by,
    )  # fmt: skip
    await Incidents(database).update(
        incident.id, IncidentState.RESOLVED, "The provider has added capacity.", by
    )
    return await _shown(show, user, account, keys, calls)


async def fill_overlong(database: Database, settings: Settings) -> Shown:
    """Fill a service whose every text and number is as long as can be."""
    now_ms = int(time.time() * 1000)
    show = Showcase(database, settings, LONG_MODELS, now_ms)
    user, account = await show.operator(LONG_LOGIN, LONG_NAME, LONG_NAME)
    by = Actor(f"operator:{user.id}")
    for role, name in (
        ("owner", LONGEST_NAME[:200]),
        ("member", "名" * 200),
        ("viewer", LONG_NAME),
    ):
        other = await show.users.create(f"{role}-{LONG_LOGIN}"[:200], name)
        await show.users.join(other.id, account, role, by)
    limits = KeyLimits(
        rpm=10**9, tpm=10**9, concurrency=10**6, budget_day_nanousd=10**15,
        budget_month_nanousd=10**15, budget_total_nanousd=10**15,
    )  # fmt: skip
    keys = [
        await show.key(account, name, user.id, limits=limits, expires_at=4_102_444_800,
                       models=[each.name for each in LONG_MODELS])
        for name in (LONG_NAME, "名" * 200, LONGEST_NAME[:200])
    ]  # fmt: skip
    for number in range(3):
        reason = "=" + LONGEST_NAME * 2
        await show.credits.topup(account, 999_999_999_999_999 - number, by, reason=reason[:400])
    calls = await show.calls(account, keys, per_day=40)
    big = Usage(input=10**9, cache_read=10**10, output=10**8, reasoning=10**8)
    calls += [
        usage_event(
            f"req_{show.chance.randbytes(10).hex()}", at_ms=now_ms - 60_000 * at,
            account_id=account, key_id=keys[at % 3], model=LONG_MODEL, provider="openrouter",
            upstream_model=f"vendor/{LONG_MODEL}", usage=big, cost_nanousd=123_456_789_012_345,
            upstream_cost_nanousd=100_000_000_000_001, user_agent=LONG_NAME * 2,
            address="2001:0db8:85a3:1234:5678:8a2e:0370:7334", duration_ms=86_400_000,
            upstream_request_id=LONG_NAME,
        )
        for at in range(6)
    ]  # fmt: skip
    await book_calls(database, *calls[-6:])
    await show.accounts.change(account, by, limits=limits_of(limits), own_budgets=Limits(
        budget_day_nanousd=10**15))  # fmt: skip
    for number in range(3):
        customer = (await show.accounts.create(f"{number} {LONGEST_NAME}"[:200], by=by)).id
        await show.credits.adjust(customer, -999_999_999_999_999, by, reason=LONGEST_NAME)
    note = CodeDetails(amount_nanousd=999_999_999_999_999, note=LONGEST_NAME[:200])
    await Codes(database).create(note, by, 3)
    await Incidents(database).open(
        LONGEST_NAME[:120], (LONG_NAME + " " + LONGEST_NAME * 3)[:500],
        [each.name for each in LONG_MODELS], by, IncidentState.MONITORING,
    )  # fmt: skip
    await Notices(database).publish(
        (LONG_NAME + " " + LONGEST_NAME * 3)[:300], NoticeLevel.WARN, by, starts_at=None,
        ends_at=None,
    )  # fmt: skip
    return await _shown(show, user, account, keys, calls)


def limits_of(limits: KeyLimits) -> Limits:
    """Return those of an account."""
    return Limits(rpm=limits.rpm, budget_month_nanousd=limits.budget_month_nanousd)


async def fill_empty(database: Database, settings: Settings) -> Shown:
    """Make an operator with an account, and nothing else."""
    show = Showcase(database, settings, USUAL_MODELS, int(time.time() * 1000))
    user, account = await show.operator("ada@example.com", "Ada Lovelace", "Ada Lovelace")
    return Shown(await show.session(user), account, "", "", "")


async def _shown(
    show: Showcase, user: User, account: str, keys: list[str], calls: list[CallRecord]
) -> Shown:
    failed = next(each.request_id for each in reversed(calls) if each.outcome == "failed")
    done = next(each.request_id for each in reversed(calls) if each.outcome == "completed")
    return Shown(await show.session(user), account, keys[0], failed, done)


def settings_of(text: str) -> Settings:
    """Return settings with a catalogue."""
    return parse(text)
