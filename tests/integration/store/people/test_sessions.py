"""Sessions end by time and by hand, and only their SHA-256 is stored."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import SYSTEM
from gateway.store.people.factors import Factors
from gateway.store.people.sessions import Lifetimes, Sessions
from gateway.store.people.tokens import new_token
from gateway.store.people.users import Users
from gateway.store.sql.database import Database
from gateway.store.sql.people_tables import SESSIONS

DAY_S = 86_400
LIVES = Lifetimes(idle_s=7 * DAY_S, max_s=30 * DAY_S)


async def test_session_shows_its_user_and_their_accounts(database: Database) -> None:
    """One look-up has all that a page needs, in the order in which the user joined."""
    users, sessions = Users(database), Sessions(database, LIVES)
    user = await users.create("ada", "Ada")
    first, second = [await Accounts(database).create(name) for name in ("one", "two")]
    await users.join(user.id, first.id, "owner", SYSTEM)
    await users.join(user.id, second.id, "viewer", SYSTEM)

    token = await sessions.begin(user, "Firefox on Linux")
    found = await sessions.find(token)

    assert found is not None
    assert found.user.id == user.id
    assert {(each.account_name, each.role) for each in found.accounts} == {
        ("one", "owner"),
        ("two", "viewer"),
    }
    assert not found.has_second_factor
    async with database.read() as connection:
        row = (await connection.execute(sa.select(SESSIONS))).one()
    assert token not in repr(tuple(row))


async def test_unused_and_old_sessions_end(database: Database) -> None:
    """By the last use, and by age; operators' earlier."""
    now = [1_800_000_000.0]
    users = Users(database)
    sessions = Sessions(database, LIVES, lambda: now[0])
    ada = await users.create("ada", "Ada")
    operator = await users.create("op", "Op", is_operator=True)
    token, idle = await sessions.begin(ada, "x"), await sessions.begin(ada, "x")
    as_operator = await sessions.begin(operator, "x")

    now[0] += 13 * 3600
    assert await sessions.find(as_operator) is None
    for _ in range(4):
        now[0] += 6 * DAY_S
        assert await sessions.find(token) is not None
    now[0] += 6 * DAY_S
    assert await sessions.find(token) is None
    assert await sessions.find(idle) is None
    assert await sessions.purge() == 3


async def test_ended_sessions_and_disabled_users_are_signed_out(database: Database) -> None:
    """By token, by id, all but one, and when the user is disabled."""
    users, sessions = Users(database), Sessions(database, LIVES)
    user = await users.create("ada", "Ada")
    tokens = [await sessions.begin(user, f"browser {at}") for at in range(4)]
    kept = await sessions.find(tokens[3])
    assert kept is not None

    await sessions.end(tokens[0])
    other = await sessions.find(tokens[1])
    assert other is not None
    await sessions.end_one("user_of_someone_else", other.session.id)
    assert await sessions.find(tokens[1]) is not None
    await sessions.end_one(user.id, other.session.id)
    await sessions.end_all(user.id, but=kept.session.id)

    assert [await sessions.find(each) is not None for each in tokens] == [False, False, False, True]
    await users.change(user.id, SYSTEM, "user.disable", disabled_at=1)
    assert await sessions.find(tokens[3]) is None


async def test_new_session_replaces_the_one_before(database: Database) -> None:
    """A token from before the sign-in is worth nothing after it."""
    users, sessions = Users(database), Sessions(database, LIVES)
    user = await users.create("ada", "Ada")
    before = await sessions.begin(user, "x")

    after = await sessions.begin(user, "x", instead_of=before)

    assert await sessions.find(before) is None
    assert await sessions.find(after) is not None


async def test_factors_are_used_once(database: Database) -> None:
    """Recovery codes, time steps of an authenticator, and tokens of forms."""
    users, factors = Users(database), Factors(database)
    user = await users.create("ada", "Ada")
    await factors.set_totp(user.id, b"sealed", ["aaaaa-aaaaa", "bbbbb-bbbbb"], SYSTEM)

    assert await factors.use_recovery_code(user.id, "aaaaa-aaaaa")
    assert not await factors.use_recovery_code(user.id, "aaaaa-aaaaa")
    assert await factors.count_recovery_codes(user.id) == 1
    assert await users.use_totp_step(user.id, 5)
    assert not await users.use_totp_step(user.id, 5)
    assert not await users.use_totp_step(user.id, 4)
    token = new_token()
    assert await factors.claim_form(token)
    assert not await factors.claim_form(token)
