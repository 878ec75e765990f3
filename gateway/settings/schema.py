"""
The configuration file as values: every section, setting, default, unit and range.

Ranges and descriptions are annotations and nowhere else: `reading` checks a file against these
structs and builds its messages from them, and `make docs` writes `docs/configuration.md` from
them. Structs that are made in code are not checked.
"""

from __future__ import annotations

from gateway.settings.billing import Money
from gateway.settings.brand import Brand
from gateway.settings.console import Console, Mail, Oidc
from gateway.settings.kept.calls import Idempotency, Responses
from gateway.settings.kept.stores import Redis, Sql
from gateway.settings.service import Admin, Keys, Metrics, Server
from gateway.settings.telemetry import Telemetry
from gateway.settings.types import Section
from gateway.settings.upstreams.catalogue import CatalogueInSql
from gateway.settings.upstreams.models import (
    Deployment,
    Hedge,
    LongContext,
    Model,
    ModelTimeouts,
    Prices,
)
from gateway.settings.upstreams.providers import (
    Credential,
    Dialect,
    PricedFeature,
    Provider,
    Timeouts,
    WireEndpoint,
)
from gateway.settings.upstreams.routing import Routing

__all__ = [
    "Admin",
    "Brand",
    "CatalogueInSql",
    "Console",
    "Credential",
    "Deployment",
    "Dialect",
    "Hedge",
    "Idempotency",
    "Keys",
    "LongContext",
    "Mail",
    "Metrics",
    "Model",
    "ModelTimeouts",
    "Money",
    "Oidc",
    "PricedFeature",
    "Prices",
    "Provider",
    "Redis",
    "Responses",
    "Routing",
    "Section",
    "Server",
    "Settings",
    "Sql",
    "Telemetry",
    "Timeouts",
    "WireEndpoint",
]


class Settings(Section, frozen=True):
    """The whole file."""

    brand: Brand = Brand()
    server: Server = Server()
    redis: Redis = Redis()
    sql: Sql = Sql()
    metrics: Metrics = Metrics()
    telemetry: Telemetry = Telemetry()
    admin: Admin = Admin()
    console: Console = Console()
    keys: Keys = Keys()
    money: Money = Money()
    idempotency: Idempotency = Idempotency()
    responses: Responses = Responses()
    routing: Routing = Routing()
    catalogue: CatalogueInSql = CatalogueInSql()
    providers: list[Provider] = []
    models: list[Model] = []

    @property
    def runs_console(self) -> bool:
        """The gateway has a console process: for the pages, the admin API, or both."""
        return self.console.enabled or self.admin.is_configured
