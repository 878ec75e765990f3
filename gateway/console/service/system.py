"""`/admin-ui/system`: the stores, this host, and third-party files."""

from __future__ import annotations

import asyncio
import time
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa
from starlette.responses import Response

from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.errors import GatewayError
from gateway.store.redis.client import RedisUnavailable, ReplyError

_VENDOR: Final = Path(__file__).parents[1] / "static" / "vendor" / "VENDOR.toml"
_STORE_S: Final = 2.0


class StoreLine(msgspec.Struct, frozen=True):
    """A store and how long it took to respond; None: it did not."""

    name: str
    milliseconds: float | None


async def system(page: Page) -> Response:
    """Show the page."""
    services = page.services
    vitals, *stores = await asyncio.gather(services.vitals.read(), _sql(page), _redis(page))
    return page.render(
        "service/system.html",
        version=_version(),
        stores=stores,
        vitals=vitals,
        vendored=vendored(),
    )


def vendored() -> list[dict[str, str]]:
    """Return name, version and licence of each third-party file that pages load."""
    files: list[dict[str, str]] = tomllib.loads(_VENDOR.read_text("utf-8"))["files"]
    return files


def _version() -> str:
    try:
        return version("capio-gateway")
    except PackageNotFoundError:
        return "\N{EN DASH}"


async def _sql(page: Page) -> StoreLine:
    database = page.services.database
    name = "SQLite" if database.is_sqlite else "PostgreSQL"
    began = time.perf_counter()
    try:
        async with database.read(timeout_s=_STORE_S) as connection:
            await connection.execute(sa.text("SELECT 1"))
    except GatewayError:
        return StoreLine(name, None)
    return StoreLine(name, (time.perf_counter() - began) * 1000)


async def _redis(page: Page) -> StoreLine:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_STORE_S):
            await page.services.redis.command("PING")
    except (RedisUnavailable, ReplyError, TimeoutError):
        return StoreLine("Redis", None)
    return StoreLine("Redis", (time.perf_counter() - began) * 1000)


ROUTES = (Route("GET", "/admin-ui/system", Access.OPERATOR, system),)
