"""Second factors in SQL: recovery codes and passkeys; and the one-time tokens of forms."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.store.accounts.audit import Actor, record
from gateway.store.people.tokens import digest
from gateway.store.people.users import User, user_of
from gateway.store.sql.database import Database
from gateway.store.sql.people_tables import FORMS, PASSKEYS, RECOVERY_CODES, USERS

FORM_LIFE_S = 86_400


class Passkey(msgspec.Struct, frozen=True, kw_only=True):
    """One passkey. `credential` is the attested credential data. Times are in Unix seconds."""

    id: bytes
    user_id: str
    name: str
    credential: bytes
    sign_count: int
    created_at: int
    used_at: int | None = None


class Factors:
    """The tables of second factors. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_totp(
        self, user_id: str, secret: bytes | None, codes: Sequence[str], by: Actor
    ) -> None:
        """Set or, with None, remove a user's authenticator, with new recovery codes."""
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(USERS).where(USERS.c.id == user_id).values(totp=secret, totp_step=0)
            )
            await connection.execute(
                sa.delete(RECOVERY_CODES).where(RECOVERY_CODES.c.user_id == user_id)
            )
            if codes:
                rows = [{"digest": digest(code), "user_id": user_id} for code in codes]
                await connection.execute(sa.insert(RECOVERY_CODES), rows)
            action = "user.totp_remove" if secret is None else "user.totp_add"
            await record(connection, by, action, user_id)

    async def use_recovery_code(self, user_id: str, code: str) -> bool:
        """Return whether a recovery code is valid, and use it up."""
        used = sa.delete(RECOVERY_CODES).where(
            RECOVERY_CODES.c.user_id == user_id, RECOVERY_CODES.c.digest == digest(code)
        )
        async with self._database.write() as connection:
            found = (await connection.execute(used)).rowcount == 1
            if found:
                await record(connection, Actor(f"user:{user_id}"), "user.recovery_code", user_id)
        return found

    async def count_recovery_codes(self, user_id: str) -> int:
        """Return how many recovery codes a user has left."""
        query = sa.select(sa.func.count()).where(RECOVERY_CODES.c.user_id == user_id)
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def add_passkey(self, passkey: Passkey, by: Actor) -> None:
        """Add a passkey to its user."""
        async with self._database.write() as connection:
            await connection.execute(sa.insert(PASSKEYS), msgspec.structs.asdict(passkey))
            await record(
                connection, by, "user.passkey_add", passkey.user_id, after={"name": passkey.name}
            )

    async def remove_passkey(self, user_id: str, passkey_id: bytes, by: Actor) -> None:
        """Remove a passkey of a user."""
        gone = sa.delete(PASSKEYS).where(PASSKEYS.c.user_id == user_id, PASSKEYS.c.id == passkey_id)
        async with self._database.write() as connection:
            if (await connection.execute(gone)).rowcount:
                await record(connection, by, "user.passkey_remove", user_id)

    async def passkeys(self, user_id: str) -> Sequence[Passkey]:
        """Return a user's passkeys, oldest first."""
        query = (
            sa.select(PASSKEYS)
            .where(PASSKEYS.c.user_id == user_id)
            .order_by(PASSKEYS.c.created_at, PASSKEYS.c.id)
        )
        async with self._database.read() as connection:
            return [_passkey(row) for row in await connection.execute(query)]

    async def find_passkey(self, passkey_id: bytes) -> tuple[Passkey, User] | None:
        """Return a passkey and its user, unless the user is disabled."""
        query = sa.select(PASSKEYS).where(PASSKEYS.c.id == passkey_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
            if row is None:
                return None
            owner = sa.select(USERS).where(USERS.c.id == row.user_id, USERS.c.disabled_at.is_(None))
            found = (await connection.execute(owner)).first()
            return None if found is None else (_passkey(row), user_of(found))

    async def use_passkey(self, passkey_id: bytes, sign_count: int) -> None:
        """Record the use of a passkey."""
        change = (
            sa.update(PASSKEYS)
            .where(PASSKEYS.c.id == passkey_id)
            .values(sign_count=sign_count, used_at=int(time.time()))
        )
        async with self._database.write() as connection:
            await connection.execute(change)

    async def claim_form(self, token: str) -> bool:
        """Return whether a form's token is used for the first time."""
        now = int(time.time())
        claim = sa.text(
            "INSERT INTO forms (digest, sent_at) VALUES (:digest, :sent_at)"
            " ON CONFLICT DO NOTHING RETURNING digest"
        )
        async with self._database.write() as connection:
            await connection.execute(sa.delete(FORMS).where(FORMS.c.sent_at < now - FORM_LIFE_S))
            values = {"digest": digest(token), "sent_at": now}
            return (await connection.execute(claim, values)).first() is not None


def _passkey(row: sa.Row[Any]) -> Passkey:
    values = {name: getattr(row, name) for name in Passkey.__struct_fields__}
    return Passkey(
        **{**values, "id": bytes(values["id"]), "credential": bytes(values["credential"])}
    )
