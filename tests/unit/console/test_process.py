"""The console process: the admin API with or without pages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from gateway.console.process import dispatch

App = Callable[..., Awaitable[None]]


def _named(name: str, seen: list[str]) -> App:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(f"{name} {scope['path']}")

    return app


@pytest.mark.parametrize(
    ("path", "with_pages", "alone"),
    [
        ("/admin/keys", "api", "api"),
        ("/admin", "pages", "api"),
        ("/admin-ui", "pages", "api"),
        ("/", "pages", "api"),
    ],
)
async def test_dispatch_gives_the_api_its_prefix(path: str, with_pages: str, alone: str) -> None:
    """Without pages the API serves every path: 404 for those that are not its own."""
    seen: list[str] = []
    api, pages = cast("Any", _named("api", seen)), _named("pages", seen)

    for application in (dispatch(api, pages), dispatch(api, None)):
        await application({"type": "http", "path": path}, None, None)

    assert seen == [f"{with_pages} {path}", f"{alone} {path}"]


def test_admin_api_alone_imports_nothing_of_the_pages() -> None:
    """Its process starts in half the time and memory of one with pages."""
    code = "import sys, gateway.console.process; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60
    )

    loaded = done.stdout.split()

    assert "gateway.console.admin_api.api" in loaded
    heavy = ("jinja2", "starlette", "markdown_it", "gateway.console.services")
    assert [name for name in heavy if name in loaded] == []
