"""`/admin-ui/system`: the settings in force, the stores, and third-party files."""

from __future__ import annotations

import asyncio
import re
import time
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from starlette.responses import Response

from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.errors import GatewayError
from gateway.settings import Settings
from gateway.store.redis.client import RedisUnavailable, ReplyError

_VENDOR: Final = Path(__file__).parents[1] / "static" / "vendor" / "VENDOR.toml"
_LISTS: Final = ("providers", "models")
"""They have pages of their own."""
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]*@")
_STORE_S: Final = 2.0


class SettingLine(msgspec.Struct, frozen=True):
    """A setting and its value; `is_default`: the file need not name it."""

    name: str
    value: str
    is_default: bool


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
        sections=setting_lines(services.settings),
        stores=stores,
        vitals=vitals,
        models=len(services.catalogue.models),
        providers=len(services.settings.providers),
        vendored=vendored(),
    )


def setting_lines(settings: Settings) -> list[tuple[str, list[SettingLine]]]:
    """Return the settings of each section; secrets are not part of them."""
    defaults = Settings()
    found = []
    for section in Settings.__struct_fields__:
        if section in _LISTS:
            continue
        values, usual = getattr(settings, section), getattr(defaults, section)
        lines = [
            SettingLine(
                f"{section}.{name}",
                _shown(getattr(values, name)),
                getattr(values, name) == getattr(usual, name),
            )
            for name in values.__struct_fields__
        ]
        found.append((section, lines))
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "\N{EN DASH}"
    plain = msgspec.to_builtins(value)
    text = plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()
    # The URL of a store may name a user and a password.
    return _USERINFO.sub("\N{HORIZONTAL ELLIPSIS}@", text)


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
