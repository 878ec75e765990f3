"""The account API of a worker and the operators' API, in this process, on a real database."""

from __future__ import annotations

from typing import Any, cast

import httpx2

from gateway.console.admin_api.accounts import AdminAccounts
from gateway.console.admin_api.announcements import AdminAnnouncements
from gateway.console.admin_api.api import AdminApi
from gateway.console.admin_api.catalogue import AdminCatalogue
from gateway.console.admin_api.keys import AdminKeys
from gateway.console.admin_api.records import AdminRecords
from gateway.console.admin_api.service import AdminService
from gateway.core.catalogue import build
from gateway.core.model import CallRecord, Principal
from gateway.core.routing.probes import Probe, ProbeOutcome
from gateway.edge.account_api import AccountApi
from gateway.edge.asgi import Edge
from gateway.operations.announcements import AnnouncementOperations
from gateway.operations.probes import ProbeOperations
from gateway.operations.service.catalogue import CatalogueOperations
from gateway.pipeline.client.authenticator import Authenticator
from gateway.settings import Deployment, Model, Provider, Settings, WireEndpoint
from gateway.store.accounts.accounts import Account, Accounts
from gateway.store.accounts.audit import Actor
from gateway.store.catalogue.records import CatalogueRecords, StoredCatalogue
from gateway.store.keys.entry import Change
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.sql.database import Database
from gateway.store.usage.dead_letters import DeadLetter
from tests.support.booking import book_calls
from tests.support.usage import usage_event

TOKEN = "operator-0123456789abcdefghijklmnopqrstuv"
PREFIX = "sk-capio-live-"


class SqlDirectory:
    """A `KeyDirectory` that asks SQL each time."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def cached(self, digest: bytes) -> Principal | None:
        return None

    async def lookup(self, digest: bytes) -> Principal | None:
        return await self._keys.load_by_digest(digest)


class RecordingPublisher:
    """Records published changes."""

    def __init__(self) -> None:
        self.accounts: list[str] = []
        self.changes: list[Change] = []
        self.away = False

    async def refresh(self, account_id: str) -> bool:
        self.accounts.append(account_id)
        return True

    async def publish(self, change: Change) -> bool:
        self.changes.append(change)
        return not self.away


class RespondingWorkers:
    """Workers whose upstream accepts the first credential."""

    async def may_ask(self, deployment: str) -> bool:
        return True

    async def ask(self, probe: Probe) -> int:
        return 1

    async def outcome(self, probe_id: str) -> Probe | None:
        outcome = ProbeOutcome(credential=1, accepted=True, status=200, ms=12)
        return Probe(probe=probe_id, deployment="p/m", outcomes=(outcome,))


class NoWorkers:
    """Redis without workers."""

    async def announce(self, catalogue: StoredCatalogue) -> bool:
        return True

    async def read(self) -> list[Any]:
        return []


class OneLetter:
    """One usage event is set aside."""

    letter = DeadLetter(id="1-0", at_ms=1000, reason="account", event=usage_event("req_aside"))

    async def letters(self, *, before: str = "", limit: int) -> list[DeadLetter]:
        return [self.letter]

    async def requeue(self, letter_id: str, by: Actor) -> DeadLetter:
        return self.letter


class AdminApp:
    """The APIs of one worker, and a client for them."""

    def __init__(
        self,
        database: Database,
        token: str | None = TOKEN,
        *,
        allow_forwarded: bool = False,
        peer: str = "127.0.0.1",
    ) -> None:
        self.database = database
        self.published = RecordingPublisher()
        self.keys = Keys(database, PREFIX)
        settings = Settings(
            providers=[Provider(name="p", openai=WireEndpoint(base_url="https://p.test/v1"))],
            models=[
                Model(
                    name="deepseek-v4-flash",
                    aliases=["flash"],
                    deployments=[Deployment(provider="p", model="m")],
                )
            ],
        )
        authenticator = Authenticator(SqlDirectory(self.keys), PREFIX)
        admin = AdminApi(
            token,
            [
                *AdminAccounts(database, self.published).routes(),
                *AdminKeys(self.keys, self.published, lambda: build(settings, {})).routes(),
                *AdminRecords(database).routes(),
                *AdminAnnouncements(AnnouncementOperations(database, lambda: ["m"])).routes(),
                *AdminService(
                    ProbeOperations(database, RespondingWorkers(), lambda: ["p/m"]),
                    cast("Any", OneLetter()),
                ).routes(),
                *AdminCatalogue(
                    CatalogueOperations(
                        CatalogueRecords(database),
                        cast("Any", NoWorkers()),
                        cast("Any", NoWorkers()),
                        lambda: settings,
                        lambda _: None,
                    )
                ).routes(),
            ],
            allow_forwarded=allow_forwarded,
        )
        nothing = cast("Any", None)
        edge = Edge(
            *(nothing, nothing, AccountApi(authenticator, database, self.published)),
            *(nothing, nothing, nothing),
        )

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"].startswith("/v1/"):
                await edge.handle(scope, receive, send)
            else:
                await admin(scope, receive, send)

        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app, client=(peer, 1234)), base_url="http://gateway.test"
        )

    async def admin(
        self, method: str, path: str, body: object = None, token: str | None = TOKEN, **headers: str
    ) -> httpx2.Response:
        """Send a request to `/admin/...`."""
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(
            method, f"/admin/{path}", headers=named, json=body if body is not None else None
        )

    async def call(
        self, key: str, path: str, body: object = None, method: str | None = None
    ) -> httpx2.Response:
        """Send a request with a virtual key."""
        chosen = method or ("GET" if body is None else "POST")
        return await self.client.request(
            chosen, path, headers={"authorization": f"Bearer {key}"}, json=body
        )

    async def account(self, name: str = "acme") -> Account:
        """Create an account."""
        return await Accounts(self.database).create(name)

    async def key(self, account: Account) -> str:
        """Create a key of an account and return its secret."""
        return (await self.keys.create(account.id, KeyDetails(name="k"))).raw

    async def record(self, *events: CallRecord) -> None:
        """Book calls as the ledger writer does."""
        await book_calls(self.database, *events)
