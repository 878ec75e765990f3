"""What pages use: stores and operations, people, the documentation and the status."""

from __future__ import annotations

import asyncio

from gateway.console.overview.low_balance import LowBalanceMails
from gateway.console.public.content import PublicContent
from gateway.console.public.status_board import StatusBoard
from gateway.console.service.board import HealthBoard
from gateway.console.service.live_board import LiveBoard
from gateway.console.service.vitals import VitalsReader
from gateway.console.signin.people import People
from gateway.console.stores import Stores
from gateway.console.web.banners import Banners
from gateway.console.web.messages import LOCALE, load_languages
from gateway.operations.people import PeopleOperations
from gateway.settings import Secrets, Settings
from gateway.store.announcements.notices import Notices
from gateway.store.catalogue.records import StoredCatalogue
from gateway.store.redis.bus import RedisBus
from gateway.store.sql.database import Database


class Services(Stores):
    """
    Everything that outlives a request.

    Args:
        settings: Checked settings.
        secrets: Passwords of the stores.
        database: SQL.
        redis: Redis.
    """

    def __init__(
        self, settings: Settings, secrets: Secrets, database: Database, redis: RedisBus
    ) -> None:
        super().__init__(settings, secrets, database, redis)
        self.languages = load_languages(LOCALE)
        self.people = People(settings, secrets, database, redis)
        self.people_operations = PeopleOperations(database, settings.brand.public_url)
        self.public = PublicContent(settings)
        self.status = StatusBoard(self)
        mailer = self.people.mailer
        self.low_balance_mails = (
            None
            if mailer is None
            else LowBalanceMails(
                database, mailer, self.people.throttle, settings.brand, self.languages
            )
        )
        self.banners = Banners(Notices(database))
        self.health = HealthBoard(self)
        self.live = LiveBoard(self)
        self.vitals = VitalsReader(settings.metrics)

    async def follow(self, stop: asyncio.Event) -> None:
        """Keep the notices of pages up to date, and send mails, until `stop` is set."""
        running = [self.banners.run(stop)]
        if self.low_balance_mails is not None:
            running.append(self.low_balance_mails.run(stop))
        await asyncio.gather(*running)

    def _serve(self, stored: StoredCatalogue) -> None:
        super()._serve(stored)
        self.public = PublicContent(self.served)
