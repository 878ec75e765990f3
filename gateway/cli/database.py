"""Runs operations on the configured database and publishes changes to the running gateways."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import click
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotConnectedError
from redis.exceptions import RedisError

from gateway.cli.config import store_secrets
from gateway.cli.formats import FAILURE, fail
from gateway.errors import GatewayError
from gateway.operations.accounts import AccountOperations
from gateway.operations.keys import KeyOperations
from gateway.operations.people import PeopleOperations
from gateway.operations.records import CodeOperations, RecordOperations
from gateway.operations.refusals import REFUSALS, refusal
from gateway.operations.values import InvalidValueError
from gateway.settings import Secrets, Settings
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.snapshot import AccountRepository
from gateway.store.keys.cache import publish_change
from gateway.store.keys.entry import Change
from gateway.store.keys.repository import Keys
from gateway.store.limits.account_loader import push_account
from gateway.store.redis.address import redis_address
from gateway.store.redis.cluster.kinds import cold_client, detect
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate, pending_revisions

Result = TypeVar("Result")


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Listed = TypeVar("Listed", bound=_HasId)


class Operations(NamedTuple):
    """The operations on one database."""

    accounts: AccountOperations
    keys: KeyOperations
    codes: CodeOperations
    records: RecordOperations
    people: PeopleOperations
    database: Database


class SchemaError(Exception):
    """The database's schema is out of date."""


class PublishError(Exception):
    """Redis cannot be reached or reported an error."""


class RedisPublisher:
    """Publishes changes of accounts and keys to the gateways that share the settings' Redis."""

    def __init__(self, settings: Settings, secrets: Secrets, database: Database) -> None:
        self._settings = settings
        self._secrets = secrets
        self._database = database

    async def refresh(self, account_id: str) -> bool:
        """Update an account in Redis; a failure prints a warning and is not an error."""

        async def work(client: Redis) -> None:
            source = AccountRepository(self._database)
            await push_account(client, self._settings.redis.key_prefix, source, account_id)

        try:
            return await self._run(work)
        except (PublishError, GatewayError) as error:
            click.echo(
                f"Warning: Redis could not be updated: {error}. Gateways pick up the change with "
                "the account's next charge or its periodic reload.",
                err=True,
            )
            return False

    async def publish(self, change: Change) -> bool:
        """
        Update a key in Redis.

        Returns:
            False if Redis is embedded and its gateway is not running.

        Raises:
            PublishError: Redis cannot be reached or reported an error.
        """

        async def work(client: Redis) -> None:
            settings = self._settings
            await publish_change(client, settings.redis.key_prefix, change, settings=settings.keys)

        try:
            published = await self._run(work)
        except PublishError as error:
            raise PublishError(
                f"Key '{change.principal.key_id}' was changed in the database, but Redis could not "
                f"be updated: {error}.\n"
                "Gateways may use the key's old state until you run the command again."
            ) from error
        if not published:
            click.echo(
                "The gateway of this data directory is not running; only the database was updated.",
                err=True,
            )
        return published

    async def _run(self, work: Callable[[Redis], Awaitable[None]]) -> bool:
        try:
            client = cold_client(
                await detect(redis_address(self._settings, self._secrets, "capio-cli"))
            )
        except (OSError, ValueError) as error:  # certificate files; options of the URL
            raise PublishError(str(error)) from error
        client.set_retry(Retry(NoBackoff(), 0))  # the operator can repeat the command
        try:
            await client.ping()
            await work(client)
        except RedisError as error:
            if isinstance(error, NotConnectedError) and self._settings.redis.url == "embedded":
                return False
            raise PublishError(str(error)) from error
        finally:
            await client.aclose()
        return True


def run(settings: Settings, work: Callable[[Operations], Awaitable[Result]]) -> Result:
    """
    Return the result of `work`, or print its error and exit with code 1.

    An embedded database is migrated first. A database server is not: other processes may use it,
    so operators decide when to run `capio migrate`.
    """
    try:
        return asyncio.run(_run(settings, store_secrets(settings), work))
    except InvalidValueError:
        raise  # a usage error, see cli.main
    except GatewayError as error:
        detail = f" ({error.detail})" if error.detail else ""
        fail([f"{error.message}{detail}"], FAILURE)
    except REFUSALS as error:
        fail([refusal(error).message], FAILURE)
    except (SchemaError, PublishError, OSError) as error:
        fail([str(error)], FAILURE)


async def _run(
    settings: Settings, secrets: Secrets, work: Callable[[Operations], Awaitable[Result]]
) -> Result:
    database = Database(settings, secrets.sql_password)
    try:
        pending = await pending_revisions(database)
        if pending and not database.is_sqlite:
            raise SchemaError(
                f"The database schema is out of date ({len(pending)} migrations pending). "
                "Run `capio migrate` first."
            )
        if pending:
            await migrate(settings)
        publisher = RedisPublisher(settings, secrets, database)
        return await work(
            Operations(
                AccountOperations(database, publisher),
                KeyOperations(Keys(database, settings.brand.key_prefix), publisher),
                CodeOperations(database),
                RecordOperations(database),
                PeopleOperations(database, settings.brand.public_url),
                database,
            )
        )
    finally:
        await database.aclose()


async def every(page_after: Callable[[str], Awaitable[Sequence[Listed]]]) -> list[Listed]:
    """Return all rows of a paged listing; `page_after` takes the last id of the page before."""
    found: list[Listed] = []
    while page := await page_after(found[-1].id if found else ""):
        found.extend(page)
    return found


def actor() -> Actor:
    """Return the user who runs the command, for the ledger and the audit log."""
    try:
        return Actor(f"cli:{getpass.getuser()}")
    except (OSError, KeyError):  # users of containers may have no name
        return Actor(f"cli:uid-{os.getuid()}")
