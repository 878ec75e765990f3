"""The stores and operations that pages use, with connections of their own."""

from __future__ import annotations

from contextlib import AsyncExitStack

import msgspec

from gateway.console.public.content import PublicContent
from gateway.console.public.status_board import StatusBoard
from gateway.console.signin.people import People
from gateway.core.catalogue import Catalogue, build
from gateway.operations.accounts import AccountOperations
from gateway.operations.keys import KeyOperations
from gateway.operations.people import PeopleOperations
from gateway.operations.records import CodeOperations, RecordOperations
from gateway.settings import Secrets, Settings
from gateway.settings.embedded import redis_url
from gateway.store.accounts.snapshot import SqlAccounts
from gateway.store.hot_state.redis_schema import account_scripts
from gateway.store.keys.cache import KeyCache
from gateway.store.keys.entry import key_entry_script
from gateway.store.keys.repository import Keys
from gateway.store.limits.account_loader import AccountLoader
from gateway.store.redis.address import read_target
from gateway.store.redis.client import RedisClient, RedisLimits
from gateway.store.sql.database import Database

STATEMENT_TIMEOUT_S = 5.0
_REDIS_TIMEOUT_S = 2.0


class Services:
    """
    Everything that outlives a request.

    Args:
        settings: Checked settings.
        secrets: Passwords of the stores.
        database: SQL.
        redis: Redis.
    """

    def __init__(
        self, settings: Settings, secrets: Secrets, database: Database, redis: RedisClient
    ) -> None:
        self.settings = settings
        self.secrets = secrets
        self.database = database
        self.redis = redis
        self.catalogue: Catalogue = build(settings, {})
        """Names, limits and prices of models; without providers' credentials."""
        self.key_records = Keys(database, settings.brand.key_prefix)
        prefix = settings.redis.key_prefix
        # Without a subscription it caches nothing; it publishes changes once Redis is available.
        self.publisher = KeyCache(
            redis, self.key_records, settings.keys, prefix, count=lambda _source: None
        )
        self.keys = KeyOperations(self.key_records, self.publisher)
        self._loader = AccountLoader(redis, SqlAccounts(database), prefix)
        self.accounts = AccountOperations(database, self._loader)
        self.people = People(settings, secrets, database, redis)
        self.people_operations = PeopleOperations(database, settings.brand.public_url)
        self.codes = CodeOperations(database)
        self.records = RecordOperations(database)
        self.public = PublicContent(settings)
        self.status = StatusBoard(self)

    def reload(self, settings: Settings) -> None:
        """Show the models and prices of newer settings; the rest applies from the next start."""
        self.settings = msgspec.structs.replace(
            self.settings, providers=settings.providers, models=settings.models
        )
        self.catalogue = build(self.settings, {})
        self.public = PublicContent(self.settings)


async def open_services(settings: Settings, secrets: Secrets, stack: AsyncExitStack) -> Services:
    """Return services whose connections `stack` closes. Neither store need be available yet."""
    pooled = msgspec.structs.replace(
        settings, sql=msgspec.structs.replace(settings.sql, pool_size=settings.console.pool_size)
    )
    database = Database(pooled, secrets.sql_password, statement_timeout_s=STATEMENT_TIMEOUT_S)
    stack.push_async_callback(database.aclose)
    target = read_target(
        redis_url(settings), password=secrets.redis_password, client_name="capio-console"
    )
    redis = RedisClient(
        target,
        RedisLimits(command_timeout_s=_REDIS_TIMEOUT_S),
        scripts=[key_entry_script(), *account_scripts().all()],
    )
    stack.push_async_callback(redis.aclose)
    await redis.start()
    services = Services(settings, secrets, database, redis)
    stack.push_async_callback(services.publisher.aclose)
    return services
