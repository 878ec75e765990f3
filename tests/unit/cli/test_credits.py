"""The commands for credits, codes, limits and records, run in this process."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.config import SHORTEST
from gateway.core.model import CallRecord
from gateway.settings import load
from gateway.store.hot_state.redis_schema import RedisKeys
from gateway.store.sql.database import Database
from tests.support.booking import book_calls as book_in
from tests.support.postgres import copy_migrated
from tests.support.usage import NOON_MS, usage_event

Capio = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose stores live in the test's own directory."""
    copy_migrated(tmp_path / "data")
    path = tmp_path / "test.toml"
    path.write_text(f'{SHORTEST}\n[server]\ndata_dir = "{tmp_path}/data"\n', "utf-8")
    return path


@pytest.fixture
def capio(config: Path) -> Capio:
    """Run a command with that configuration."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--config", str(config)])

    return run


def rows(result: Result) -> Any:
    """Return what a command printed as JSON."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def acme(capio: Capio) -> str:
    """The id of an account named acme."""
    (made,) = rows(capio("accounts", "create", "acme", "--json"))
    return str(made["id"])


def book_calls(config: Path, *events: CallRecord) -> None:
    """Book calls as the ledger writer does."""

    async def work() -> None:
        database = Database(load(config))
        await book_in(database, *events)
        await database.aclose()

    asyncio.run(work())


def test_credits_topup_and_adjust_move_the_balance_exactly(capio: Capio, acme: str) -> None:
    """Amounts are exact to the nano-dollar; every entry keeps its reason."""
    topup = capio("credits", "topup", "--account", "acme", "--amount", "12.50", "--reason", "inv 7")
    adjust = capio(
        "credits", "adjust", "--account", acme, "--amount=-0.000000001", "--reason", "rounding"
    )

    (shown,) = rows(capio("credits", "show", "--account", "acme", "--json"))

    assert (topup.exit_code, adjust.exit_code) == (0, 0), topup.stderr + adjust.stderr
    assert (shown["balance"], shown["balance_nanousd"]) == ("12.499999999", 12_499_999_999)
    assert shown["available_nanousd"] == 12_499_999_999
    assert [(e["kind"], e["amount"], e["reason"]) for e in shown["entries"]] == [
        ("adjustment", "-0.000000001", "rounding"),
        ("topup", "12.50", "inv 7"),
    ]
    assert shown["entries"][0]["actor"].startswith("cli:")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--amount", "1.0000000001"], 2, "is not an amount in dollars"),
        (["--amount", "1e3"], 2, "is not an amount in dollars"),
        (["--amount", "0"], 1, "more than 0"),
        (["--amount=-5"], 1, "more than 0"),
        (["--amount", "1000000.01"], 1, "1000000.00 allowed"),
        (["--amount", "1", "--account", "nobody"], 1, "Account 'nobody' does not exist."),
    ],
)
def test_credits_topup_of_a_wrong_amount_moves_nothing(
    capio: Capio, acme: str, arguments: list[str], code: int, message: str
) -> None:
    """The error names the value, and the balance does not change."""
    result = capio("credits", "topup", "--account", "acme", "--reason", "x", *arguments)

    assert result.exit_code == code
    assert message in result.stderr
    assert rows(capio("credits", "show", "--account", acme, "--json"))[0]["balance"] == "0.00"


def test_credits_topup_once_books_once(capio: Capio, acme: str) -> None:
    """A repeated idempotency key books once; with a different amount it is an error."""
    arguments = ["credits", "topup", "--account", acme, "--reason", "x", "--once", "inv-7"]

    first = capio(*arguments, "--amount", "5")
    again = capio(*arguments, "--amount", "5")
    other = capio(*arguments, "--amount", "6")

    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "no new entry was booked" in again.stderr
    assert (other.exit_code, other.stderr) == (
        1, "Idempotency key 'inv-7' was already used for a different ledger entry.\n",
    )  # fmt: skip
    assert rows(capio("credits", "show", "--account", acme, "--json"))[0]["balance"] == "5.00"


def test_credits_refund_gives_back_a_charge(capio: Capio, config: Path, acme: str) -> None:
    """By the call's request id, only once."""
    book_calls(config, usage_event("req_1", account_id=acme, cost_nanousd=2_000_000_000))

    result = capio("credits", "refund", "req_1", "--reason", "was empty", "--json")
    again = capio("credits", "refund", "req_1", "--reason", "was empty")

    assert (rows(result)[0]["amount"], rows(result)[0]["balance_after"]) == ("2.00", "0.00")
    assert (again.exit_code, again.stderr) == (1, "Call 'req_1' has already been refunded.\n")
    assert capio("credits", "refund", "req_2", "--reason", "x").exit_code == 1


def test_credits_show_as_csv_lists_the_movements(capio: Capio, acme: str) -> None:
    """For spreadsheets: a head, and amounts in dollars and nano-dollars."""
    capio("credits", "topup", "--account", acme, "--amount", "1", "--reason", 'a "b", c')

    (line,) = csv.DictReader(
        io.StringIO(capio("credits", "show", "--account", acme, "--csv").stdout)
    )

    assert (line["kind"], line["amount"], line["amount_nanousd"], line["reason"]) == (
        "topup", "1.00", "1000000000", 'a "b", c',
    )  # fmt: skip


def test_accounts_may_owe_when_they_are_postpaid(capio: Capio) -> None:
    """With or without a limit; a prepaid account has no credit limit."""
    (limited,) = rows(
        capio("accounts", "create", "a", "--postpaid", "--credit-limit", "100", "--json")
    )
    (endless,) = rows(capio("accounts", "billing", "a", "--postpaid", "--json"))
    (prepaid,) = rows(capio("accounts", "billing", "a", "--prepaid", "--json"))

    assert [(each["billing"], each["credit_limit"]) for each in (limited, endless, prepaid)] == [
        ("postpaid", "100.00"),
        ("postpaid", None),
        ("prepaid", "0.00"),
    ]
    assert capio("accounts", "create", "b", "--credit-limit", "1").exit_code == 2
    assert capio("accounts", "create", "b", "--postpaid", "--credit-limit=-1").exit_code == 2


def test_accounts_are_trusted_when_the_operator_reports_it(capio: Capio) -> None:
    """At creation or later; the default is untrusted, and a change of billing keeps it."""
    (plain,) = rows(capio("accounts", "create", "a", "--json"))
    (trusted,) = rows(capio("accounts", "create", "b", "--trusted", "--json"))
    (later,) = rows(capio("accounts", "set", "a", "--trusted", "--json"))
    (billed,) = rows(capio("accounts", "billing", "a", "--postpaid", "--json"))
    (no_more,) = rows(capio("accounts", "set", "a", "--untrusted", "--json"))

    each = (plain, trusted, later, billed, no_more)
    assert [row["trusted"] for row in each] == [False, True, True, True, False]
    assert capio("accounts", "set", "a").exit_code == 2


def test_codes_are_shown_once_listed_and_revoked(capio: Capio) -> None:
    """Only `create` prints the code itself."""
    created = capio(
        "codes", "create", "--amount", "5", "--count", "2", "--expires", "30d", "--note", "fair"
    )
    listed = rows(capio("codes", "list", "--json"))

    revoked = capio("codes", "revoke", listed[0]["id"])

    assert created.exit_code == 0, created.stderr
    assert "cannot be shown again" in created.stderr
    raw = [word for word in created.stdout.split() if word.count("-") == 3]
    assert len(raw) == 2
    assert not any(code in capio("codes", "list", "--json").stdout for code in raw)
    assert revoked.exit_code == 0
    states = [each["state"] for each in rows(capio("codes", "list", "--json"))]
    assert states == ["revoked", "open"]
    assert {code[-4:] for code in raw} == {each["ends_in"] for each in listed}
    assert capio("codes", "revoke", "code_none").stderr == "This code does not exist.\n"


def test_codes_created_as_csv_can_be_mailed(capio: Capio) -> None:
    """One line for each code."""
    result = capio("codes", "create", "--amount", "1", "--count", "3", "--csv")

    assert len({line["code"] for line in csv.DictReader(io.StringIO(result.stdout))}) == 3


def test_limits_of_an_account_are_set_one_by_one(capio: Capio, acme: str) -> None:
    """Other limits are kept; `none` removes a limit."""
    capio("limits", "set", "--account", "acme", "--rpm", "60", "--budget-day", "2.50")
    capio("limits", "set", "--account", acme, "--tpm", "1000", "--rpm", "none")

    (shown,) = rows(capio("limits", "show", "--account", acme, "--json"))

    assert (shown["rpm"], shown["tpm"], shown["budget_day"]) == (None, 1000, "2.50")
    assert shown["budget_day_nanousd"] == 2_500_000_000


def test_limits_of_a_key_and_its_models(capio: Capio, acme: str) -> None:
    """A key has its own limits and further limits for single models."""
    made = rows(capio("keys", "create", "--account", acme, "--name", "ci", "--json"))
    key_id = made["id"]

    capio("limits", "set", "--key", key_id, "--concurrency", "4")
    model = ["--model", "capio/deepseek-v4-flash"]
    changed = capio("limits", "set", "--key", key_id, *model, "--rpm", "5", "--json")

    shown = rows(capio("limits", "show", "--key", key_id, "--json"))
    assert [(each["of"], each["concurrency"], each["rpm"]) for each in shown] == [
        (key_id, 4, None),
        (f"{key_id} deepseek-v4-flash", None, 5),
    ]
    assert rows(changed) == shown
    (listed,) = rows(capio("keys", "list", "--json"))
    assert listed["state"] == "active"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--account", "acme"], "Nothing to change"),
        (["--rpm", "1"], "either --account or --key"),
        (["--account", "acme", "--key", "k", "--rpm", "1"], "either --account or --key"),
        (["--account", "acme", "--rpm", "fast"], "neither a whole number nor none"),
        (["--account", "acme", "--budget-day", "1e5"], "neither an amount in dollars nor none"),
        (["--account", "acme", "--rpm", "0"], "--rpm is out of range: Expected `int` >= 1."),
        (["--account", "acme", "--rpm", "1", "--model", "m"], "--model requires --key"),
        (["--key", "k", "--rpm", "1", "--model", "deepseek-v4-flsh"], "did you mean"),
    ],
)
def test_limits_set_with_wrong_values_changes_nothing(
    capio: Capio, acme: str, arguments: list[str], message: str
) -> None:
    """The error names the value."""
    result = capio("limits", "set", *arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert rows(capio("audit", "--object", acme, "--json"))[0]["action"] == "account.create"


def test_reconcile_reports_differences_by_its_exit_code(
    capio: Capio, config: Path, acme: str
) -> None:
    """0 without differences; 1 with differences, which are listed."""
    capio("credits", "topup", "--account", acme, "--amount", "1", "--reason", "x")
    sound = capio("reconcile")
    run_sql(config, "UPDATE accounts SET balance_nanousd = balance_nanousd + 1")

    wrong = capio("reconcile")
    as_json = capio("reconcile", "--json")

    assert (sound.exit_code, sound.stdout) == (
        0, "1 accounts and 1 ledger entries: no differences.\n",
    )  # fmt: skip
    assert wrong.exit_code == 1
    assert acme in wrong.stdout
    assert "1.000000001" in wrong.stdout
    assert as_json.exit_code == 1
    (difference,) = json.loads(as_json.stdout)["differences"]
    assert (difference["check"], difference["found_nanousd"]) == ("balance", 1_000_000_001)


def run_sql(config: Path, statement: str) -> None:
    async def work() -> None:
        database = Database(load(config))
        async with database.write() as connection:
            await connection.exec_driver_sql(statement)
        await database.aclose()

    asyncio.run(work())


def test_usage_shows_money_and_on_demand_the_margin(capio: Capio, config: Path, acme: str) -> None:
    """By several groups at once, as a table, JSON or CSV."""
    call = usage_event(
        account_id=acme, cost_nanousd=3_000_000, upstream_cost_nanousd=2_000_000, at_ms=NOON_MS
    )
    book_calls(config, call)
    arguments = ["usage", "--by", "model", "--by", "account"]

    (plain,) = rows(capio(*arguments, "--json"))
    (margin,) = csv.DictReader(io.StringIO(capio(*arguments, "--margin", "--csv").stdout))

    assert (plain["model"], plain["account"], plain["cost"]) == ("deepseek-v4-flash", acme, "0.003")
    assert "margin" not in plain
    assert (margin["upstream_cost"], margin["margin_nanousd"]) == ("0.002", "1000000")
    assert margin["calls_without_cost"] == "0"
    assert "0.003" in capio(*arguments).stdout


def test_audit_shows_who_changed_what(capio: Capio, acme: str) -> None:
    """Newest first, optionally for one object."""
    capio("credits", "topup", "--account", acme, "--amount", "1", "--reason", "x")
    capio("codes", "create", "--amount", "1")

    every = rows(capio("audit", "--json"))
    table = capio("audit", "--object", acme).stdout

    assert [entry["action"] for entry in every] == [
        "code.create",
        "credits.topup",
        "account.create",
    ]
    assert every[1]["before"] == {"balance_nanousd": 0}
    assert every[1]["after"]["balance_nanousd"] == 1_000_000_000
    assert "credits.topup" in table
    assert "code.create" not in table


def test_audit_shows_what_was_switched_off(capio: Capio, acme: str) -> None:
    """A field that becomes false or empty is a change like another."""
    capio("accounts", "set", acme, "--trusted")
    capio("accounts", "set", acme, "--untrusted")

    assert "trusted=true" in capio("audit", "--object", acme).stdout
    assert "trusted=false" in capio("audit", "--object", acme).stdout


@pytest.mark.redis
def test_credits_topup_updates_redis(
    capio: Capio, config: Path, acme: str, valkey_url: str
) -> None:
    """Redis has the new balance before the command ends."""
    prefix = f"cli{acme}:"
    config.write_text(
        f'[redis]\nurl = "{valkey_url}"\nkey_prefix = "{prefix}"\n{config.read_text()}'
    )

    result = capio("credits", "topup", "--account", acme, "--amount", "3", "--reason", "x")
    capio("limits", "set", "--account", acme, "--rpm", "7")

    name = RedisKeys(prefix).of(acme).accounts + acme.encode()
    with redis.Redis.from_url(valkey_url) as client:
        held = client.hgetall(name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert isinstance(held, dict)
    assert (held[b"base"], held[b"cv"]) == (b"3000000000", b"2")
    assert b"lim" in held


def test_credits_topup_without_redis_is_booked_and_reports_it(
    capio: Capio, config: Path, acme: str
) -> None:
    """SQL is authoritative: the gateways pick up the change later."""
    config.write_text(f'[redis]\nurl = "unix://{config.parent}/none.sock"\n{config.read_text()}')

    result = capio("credits", "topup", "--account", acme, "--amount", "3", "--reason", "x")

    assert result.exit_code == 0
    assert "Redis could not be updated" in result.stderr
    assert rows(capio("credits", "show", "--account", acme, "--json"))[0]["balance"] == "3.00"
