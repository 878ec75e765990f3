"""Composes what one worker needs to admit, charge and journal calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from gateway.core.money import nanousd
from gateway.settings import Settings
from gateway.store.accounts.snapshot import AccountSource
from gateway.store.hot_state.census import WorkerCensus
from gateway.store.limits.account_credit import RedisCredit
from gateway.store.limits.account_loader import AccountLoader
from gateway.store.limits.leases import LeaseRenewer
from gateway.store.limits.reservations import RedisReservations
from gateway.store.limits.sweeper import Sweeper
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError
from gateway.store.spill.direct import DirectBooking
from gateway.store.usage.journal import UsageStream
from gateway.telemetry.call_metrics import CallMetrics
from gateway.telemetry.metrics import Metrics


class Metering:
    """
    Admission, charging and journal of one worker; `aclose` it after the last call has ended.

    Args:
        bus: Redis; loads `redis_schema.account_scripts().all()` at connect.
        source: SQL.
        settings: Redis' key prefix, the data directory and the `money` section.
        metrics: The worker's metrics.
        call_metrics: Counts the results of reservations.
        direct: Books usage that Redis does not accept; None: it waits for Redis.
        now_ms: Unix milliseconds for the scripts; None: the server's clock.

    Attributes:
        journal: The `ports.UsageLog`.
        accounts: Call its `refresh` after every change of an account in SQL.
        running: The leases of this worker's calls.
        reservations: The `ports.Reservations`.
        credit: The `ports.AccountCredit`.
        census: Counts the live workers of all pods.
        sweeper: Settles the calls of dead workers.
    """

    def __init__(
        self,
        bus: RedisBus,
        source: AccountSource,
        settings: Settings,
        metrics: Metrics,
        call_metrics: CallMetrics,
        *,
        direct: DirectBooking | None = None,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        prefix, lease_s = settings.redis.key_prefix, settings.money.lease_s
        self._renew_s = settings.money.renew_s
        self.journal = UsageStream(
            bus, settings, metrics, stored=source.stored, direct=direct, now_ms=now_ms
        )
        self.accounts = AccountLoader(bus, source, prefix, now_ms=now_ms)
        self.running = LeaseRenewer(
            bus, prefix, lease_s=lease_s, observe_epoch=self.journal.observe_epoch, now_ms=now_ms
        )
        self.census = WorkerCensus(bus, prefix, observe=metrics.live_workers.set)
        self.reservations = RedisReservations(
            bus,
            self.journal,
            self.accounts,
            self.running,
            lambda: self.census.workers,
            settings,
            count=call_metrics.count_reservation,
            now_ms=now_ms,
        )
        self.credit = RedisCredit(
            bus,
            self.accounts,
            self.reservations.local,
            prefix,
            exposure_floor_nanousd=nanousd(settings.money.exposure_floor),
            exposure_share=settings.money.exposure_share,
            top_up=f"{settings.brand.public_url.rstrip('/')}/app/credits",
            count=call_metrics.count_reservation,
        )
        self.sweeper = Sweeper(
            bus,
            prefix,
            lease_s=lease_s,
            count=metrics.abandoned.inc,
            count_refused=metrics.usage_refused.inc,
            now_ms=now_ms,
        )
        self._renewing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start replaying, renewing and sweeping."""
        self.journal.start()
        self.running.start(self._renew_s)
        self.sweeper.start()
        self.census.start()

    def redis_returned(self) -> None:
        """Resend recent events, failed releases and running calls: Redis is back."""
        self.sweeper.rest_after_outage()
        self.journal.resend_recent()
        self.reservations.release_pending()
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="renew-after-outage")

    async def aclose(self) -> None:
        """Stop all parts, the journal last. Idempotent."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        await self.census.aclose()
        await self.sweeper.aclose()
        await self.running.aclose()
        await self.credit.aclose()
        await self.accounts.aclose()
        await self.journal.aclose()

    async def _renew(self) -> None:
        with contextlib.suppress(RedisUnavailable, ReplyError):  # the next round retries
            await self.running.renew()
