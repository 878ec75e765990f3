"""The stores and operations of the console, with connections of their own."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from gateway.console.admin_api.accounts import AdminAccounts
from gateway.console.admin_api.announcements import AdminAnnouncements
from gateway.console.admin_api.api import AdminApi
from gateway.console.admin_api.catalogue import AdminCatalogue
from gateway.console.admin_api.keys import AdminKeys
from gateway.console.admin_api.records import AdminRecords
from gateway.console.admin_api.service import AdminService
from gateway.core.catalogue import Catalogue, build, deployment_labels
from gateway.operations.accounts import AccountOperations, ClosingOperations
from gateway.operations.announcements import AnnouncementOperations
from gateway.operations.keys import KeyOperations
from gateway.operations.probes import ProbeOperations
from gateway.operations.records import CodeOperations, RecordOperations
from gateway.operations.service.catalogue import CatalogueOperations
from gateway.operations.service.upkeep import UpkeepOperations
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import Secrets, Settings
from gateway.settings.entries.merge import merge
from gateway.store.accounts.reconcile_runs import ReconcileRuns
from gateway.store.accounts.snapshot import AccountRepository
from gateway.store.catalogue.announcer import CatalogueAnnouncer
from gateway.store.catalogue.follower import CatalogueFollower
from gateway.store.catalogue.records import CatalogueRecords, StoredCatalogue
from gateway.store.catalogue.shared import SharedCatalogue
from gateway.store.health.live import LiveReports
from gateway.store.health.probes import RedisProbes
from gateway.store.hot_state.current_use import CurrentUse
from gateway.store.hot_state.redis_schema import account_scripts
from gateway.store.keys.cache import KeyCache
from gateway.store.keys.entry import key_entry_script
from gateway.store.keys.repository import Keys
from gateway.store.limits.account_loader import AccountLoader
from gateway.store.redis.address import redis_address
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisLimits
from gateway.store.redis.cluster.kinds import pipelined_client
from gateway.store.sql.database import Database
from gateway.store.usage.dead_letters import DeadLetters

STATEMENT_TIMEOUT_S = 5.0
ADMIN_STATEMENT_TIMEOUT_S = 30.0
ADMIN_CONNECTIONS = 2
"""Of the admin API, whose reports may take longer than a page."""
_REDIS_TIMEOUT_S = 2.0


class Stores:
    """
    What the admin API and the pages change and read.

    Args:
        settings: Checked settings.
        secrets: Passwords of the stores.
        database: SQL.
        redis: Redis.
    """

    def __init__(
        self, settings: Settings, secrets: Secrets, database: Database, redis: RedisBus
    ) -> None:
        self.settings = settings
        """Those of the file."""
        self.served = settings
        """With the providers and models of SQL."""
        self.secrets = secrets
        self.database = database
        self.redis = redis
        self.config_path: Path | None = None
        """The configuration file; None: the service runs without one."""
        self.catalogue: Catalogue = build(settings, {})
        """Names, limits and prices of models; without providers' credentials."""
        prefix = settings.redis.key_prefix
        records, shared = CatalogueRecords(database), SharedCatalogue(redis, prefix)
        self._announcer = CatalogueAnnouncer(records, shared)
        self.follower = CatalogueFollower(records, shared)
        self.entries = self.catalogue_operations(database)
        self.key_records = Keys(database, settings.brand.key_prefix)
        # Without a subscription it caches nothing; it publishes changes once Redis is available.
        self.publisher = KeyCache(
            redis, self.key_records, settings.keys, prefix, count=lambda _source: None
        )
        self.keys = KeyOperations(self.key_records, self.publisher)
        self.loader = AccountLoader(redis, AccountRepository(database), prefix)
        self.accounts = AccountOperations(database, self.loader)
        self.current_use = CurrentUse(redis, prefix, lambda: time.time_ns() // 1_000_000)
        self.closing = ClosingOperations(database, self.publisher, self.current_use)
        self.codes = CodeOperations(database)
        self.records = RecordOperations(database)
        self.announcements = AnnouncementOperations(database, self.model_names)
        self.upkeep = UpkeepOperations(
            database, DeadLetters(redis, prefix), ReconcileRuns(redis.command, prefix)
        )
        self.probes = ProbeOperations(
            database, RedisProbes(redis.command, prefix), lambda: deployment_labels(self.catalogue)
        )

    def catalogue_operations(self, database: Database) -> CatalogueOperations:
        """Return the operations on providers and models, with connections of `database`."""
        return CatalogueOperations(
            CatalogueRecords(database),
            self._announcer,
            LiveReports(self.redis, self.settings.redis.key_prefix),
            lambda: self.settings,
            lambda _catalogue: self.follower.announced(),
        )

    async def start_catalogue(self, stack: AsyncExitStack) -> None:
        """Read the providers and models of SQL, and follow their changes until `stack` closes."""
        if not self.settings.catalogue.sql:
            return
        self._serve(await self.follower.load())
        self.follower.start(self._follow)
        stack.push_async_callback(self.follower.aclose)
        announcing = asyncio.create_task(self._announcer.run(), name="catalogue-announcer")
        stack.push_async_callback(_cancel, announcing)

    async def follow(self, stop: asyncio.Event) -> None:
        """Keep what is read ahead of requests up to date until `stop` is set."""

    def model_names(self) -> list[str]:
        """Return the names of all models."""
        return [each.name for each in self.catalogue.models]

    def reload(self, settings: Settings) -> None:
        """Use the models and prices of newer settings; the rest applies from the next start."""
        self.settings = msgspec.structs.replace(
            self.settings, providers=settings.providers, models=settings.models
        )
        self._serve(self.follower.current)

    async def _follow(self, stored: StoredCatalogue) -> None:
        self._serve(stored)

    def _serve(self, stored: StoredCatalogue) -> None:
        """Use the models and prices of the file and of SQL."""
        self.served = merge(self.settings, stored.entries, capabilities).settings
        self.catalogue = build(self.served, {})


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def admin_api(stores: Stores, database: Database) -> AdminApi:
    """
    Return the operators' API.

    Args:
        stores: Publish changes.
        database: SQL for the API alone, so that pages do not delay it.
    """
    keys = Keys(database, stores.settings.brand.key_prefix)
    return AdminApi(
        stores.secrets.admin_token,
        [
            *AdminAccounts(database, stores.loader).routes(),
            *AdminKeys(keys, stores.publisher, lambda: stores.catalogue).routes(),
            *AdminRecords(database).routes(),
            *AdminService(stores.probes, stores.upkeep).routes(),
            *AdminAnnouncements(AnnouncementOperations(database, stores.model_names)).routes(),
            *AdminCatalogue(stores.catalogue_operations(database)).routes(),
        ],
        allow_forwarded=stores.settings.admin.allow_forwarded,
    )


def open_database(
    settings: Settings,
    secrets: Secrets,
    stack: AsyncExitStack,
    pool_size: int,
    statement_timeout_s: float,
) -> Database:
    """Return a database whose connections `stack` closes."""
    sql = msgspec.structs.replace(settings.sql, pool_size=pool_size)
    pooled = msgspec.structs.replace(settings, sql=sql)
    database = Database(pooled, secrets.sql_password, statement_timeout_s=statement_timeout_s)
    stack.push_async_callback(database.aclose)
    return database


async def open_redis(settings: Settings, secrets: Secrets, stack: AsyncExitStack) -> RedisBus:
    """Return a started Redis client that `stack` closes. Redis need not be available yet."""
    target = redis_address(settings, secrets, "capio-console")
    redis = pipelined_client(
        target,
        RedisLimits(command_timeout_s=_REDIS_TIMEOUT_S),
        scripts=[key_entry_script(), *account_scripts().all()],
    )
    stack.push_async_callback(redis.aclose)
    await redis.start()
    return redis
