"""The console in this process, on a real database, with a client for it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import httpx2

from gateway.console.application import Application
from gateway.console.routes import ROUTES
from gateway.console.services import Services
from gateway.console.web.page import Route
from gateway.console.web.viewer import Membership, Role, Viewer
from gateway.settings import Secrets, Settings
from gateway.store.redis.address import parse_address
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import PipelinedRedis, RedisLimits
from gateway.store.sql.database import Database

HOST = "console.test"
ORIGIN = f"http://{HOST}"
# Nothing listens there: changes are published once Redis is back.
NO_REDIS = "redis://127.0.0.1:1/0"


class FixedViewer:
    """Everyone is `viewer`."""

    def __init__(self, viewer: Viewer | None) -> None:
        self.viewer = viewer

    async def find(self, token: str | None) -> Viewer | None:
        return self.viewer


def viewer(account_id: str, role: Role = Role.OWNER, *, is_operator: bool = False) -> Viewer:
    """Return a signed-in user with one account."""
    membership = Membership(account_id, "Acme", role)
    return Viewer(
        user_id="user_1",
        name="Ada Lovelace",
        session_id="session_1",
        is_operator=is_operator,
        memberships=(membership,),
        account=membership,
    )


class ConsoleApp:
    """
    The pages, and a client that sends what a browser does.

    Args:
        database: Migrated.
        settings: Of the service.
        signed_in: Who looks at the pages; None: signed out.
        routes: The pages.
        real_sessions: Look the viewer up by the session's cookie.
        secrets: Of the service.
        redis: A started client; None: Redis is unavailable.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        signed_in: Viewer | None = None,
        routes: Sequence[Route] = ROUTES,
        *,
        real_sessions: bool = False,
        secrets: Secrets | None = None,
        redis: RedisBus | None = None,
    ) -> None:
        redis = redis or PipelinedRedis(
            parse_address(NO_REDIS), RedisLimits(command_timeout_s=0.01), scripts=[]
        )
        self.services = Services(settings, secrets or Secrets({}), database, redis)
        self.viewers = FixedViewer(signed_in)
        viewers = self.services.people if real_sessions else self.viewers
        self.application = Application(self.services, viewers, routes)
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=self.application),
            base_url=ORIGIN,
            cookies={} if real_sessions else {"session": "any"},
            headers={"sec-fetch-site": "same-origin", "accept": "text/html"},
        )

    async def __aenter__(self) -> ConsoleApp:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.client.aclose()
        await self.services.publisher.aclose()
        await self.services.redis.aclose()
        await self.services.database.aclose()
