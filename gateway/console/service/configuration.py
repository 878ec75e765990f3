"""`/admin-ui/system/configuration`: the settings in force, and where the file differs from them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from starlette.responses import Response

from gateway.console.reporting.filters import LONGEST_VALUE
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.settings import ConfigError, Loaded, Settings, load_sources
from gateway.settings.sources.effective import EffectiveSetting, effective_settings

SHOWN: Final = ("set", "all", "different")
MOST_LINES: Final = 1000
"""Further lines are found by the text filter."""
RELOADED: Final = ("providers", "models")
"""A reload applies these; all others need a restart."""
_INDEX: Final = re.compile(r"(providers|models)\[([0-9]+)\]")
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]*@")


class ConfigLine(msgspec.Struct, frozen=True, kw_only=True):
    """A setting; None: it is not set."""

    name: str
    value: str | None
    """In force."""
    in_file: str | None
    """By the file and the environment, as they are now; equal to `value` if there is no file."""
    source: str
    """`default`, `file` or `environment`."""
    variable: str | None = None

    @property
    def differs(self) -> bool:
        """The file does not say what is in force."""
        return self.value != self.in_file

    @property
    def is_set(self) -> bool:
        """Not a default."""
        return self.source != "default" or self.differs


class FileState(NamedTuple):
    """The configuration file as it is now; both empty: it cannot be known."""

    loaded: Loaded | None
    errors: list[str]


async def configuration(page: Page) -> Response:
    """Show the page."""
    services = page.services
    path = services.config_path
    file = FileState(None, []) if path is None else await asyncio.to_thread(read_file, path)
    lines = config_lines(services.settings, file.loaded)
    different = [line for line in lines if line.differs]
    show = page.query("show") if page.query("show") in SHOWN else SHOWN[0]
    text = page.query("q").strip()[:LONGEST_VALUE]
    chosen = {"set": [line for line in lines if line.is_set], "different": different}
    found = [
        line
        for line in chosen.get(show, lines)
        if text.lower() in line.name.lower() or text.lower() in (line.value or "").lower()
    ]
    return page.render(
        "service/configuration.html",
        path=path,
        file=file,
        different=len(different),
        needs_restart=any(not line.name.startswith(RELOADED) for line in different),
        lines=found[:MOST_LINES],
        hidden=max(len(found) - MOST_LINES, 0),
        show=show,
        text=text,
        options=[
            ("set", page.text("Set in the configuration")),
            ("all", page.text("All settings")),
            ("different", page.text("Different in the file")),
        ],
    )


def read_file(path: Path) -> FileState:
    """Return the file with the overrides of the environment, or what is wrong with it."""
    try:
        return FileState(load_sources(path, None, os.environ), [])
    except ConfigError as failure:
        return FileState(None, failure.errors)


def config_lines(in_force: Settings, loaded: Loaded | None) -> list[ConfigLine]:
    """Return all settings of either; without a file, defaults are those that equal one."""
    ours = _by_name(in_force, {}, {})
    if loaded is None:
        usual = {name: each.value for name, each in _by_name(Settings(), {}, {}).items()}
        return [
            ConfigLine(
                name=name,
                value=_shown(each.value),
                in_file=_shown(each.value),
                source="default" if usual.get(name) == each.value else "file",
            )
            for name, each in ours.items()
        ]
    theirs = _by_name(loaded.settings, loaded.raw, loaded.variables)
    found = []
    for name in dict.fromkeys([*theirs, *ours]):
        mine, file = ours.get(name), theirs.get(name)
        found.append(
            ConfigLine(
                name=name,
                value=None if mine is None else _shown(mine.value),
                in_file=None if file is None else _shown(file.value),
                source="default" if file is None else file.source,
                variable=None if file is None else file.variable,
            )
        )
    return found


def _by_name(
    settings: Settings, raw: Mapping[str, object], variables: Mapping[str, str]
) -> dict[str, EffectiveSetting]:
    """Return settings by path; providers and models by name, so that their order is no change."""
    names = {
        "providers": [each.name for each in settings.providers],
        "models": [each.name for each in settings.models],
    }

    def named(path: str) -> str:
        return _INDEX.sub(lambda found: f"{found[1]}.{names[found[1]][int(found[2])]}", path, 1)

    return {named(each.path): each for each in effective_settings(settings, raw, variables)}


def _shown(value: str | None) -> str | None:
    # The URL of a store may name a user.
    return None if value is None else _USERINFO.sub("\N{HORIZONTAL ELLIPSIS}@", value)


ROUTES = (Route("GET", "/admin-ui/system/configuration", Access.OPERATOR, configuration),)
