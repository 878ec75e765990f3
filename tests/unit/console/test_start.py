"""The console's start: what it imports before it serves, and what it prepares afterwards."""

from __future__ import annotations

import subprocess
import sys

from gateway.console.public.content import PublicContent
from tests.support.pages import other_settings

LATER = (
    "sqlalchemy.orm",  # 0.2 s of CPU
    "zxcvbn",
    "segno",
    "markdown_it",
    "pygments",
    "gateway.console.openapi.clients",
    "gateway.console.openapi.operators",
)


def test_what_only_some_pages_need_is_not_imported_at_the_start() -> None:
    """A module that slows the start down is named here; browsers get 503 until it is over."""
    started = "gateway.console.process, gateway.console.application, gateway.console.services"
    code = (
        f"import sys, gateway.console.routes, {started}; print(*{set(LATER)} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert found.stdout.split() == []


def test_the_documentation_is_rendered_step_by_step() -> None:
    """Each step renders one page, so that requests are served in between."""
    content = PublicContent(other_settings())
    steps = content.renderings()
    next(steps)()
    pages = list(content.library.pages.values())
    next(steps)()

    assert ["rendered" in page.__dict__ for page in pages[:2]] == [True, False]
    assert len(list(steps)) == len(pages) - 1
