"""
Reads the sources of the documentation.

Pages with variables are in `gateway/console/docs`, with front matter. Pages that are also read in
the repository are in its `docs/`; a wheel holds them below `gateway/console/docs/repository`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from jinja2 import Environment, StrictUndefined

from gateway.console.library.site import Site

ROOT: Final = "/docs"
_FOLDER: Final = Path(__file__).parents[1] / "docs"
_PACKAGED: Final = _FOLDER / "repository"
_CHECKOUT: Final = Path(__file__).parents[3] / "docs"

SECTIONS: Final = ("Start", "Clients", "Guides", "API", "Operate", "Admin API")
"""In the order of the sidebar."""
_SECTIONS_OF_READERS: Final = {"operators": "Operate", "client developers": "Guides"}
_REPLACED: Final = {"clients.md": f"{ROOT}/clients", "README.md": ROOT}
"""Pages of the repository that are replaced by others here."""
_TITLES: Final = {
    "native-chat.md": "Native chat",
    "translation-chat.md": "Translation of Chat Completions",
    "translation-messages.md": "Translation of Messages",
}
_FIRST_OF_REPOSITORY: Final = 500
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_REPOSITORY: Final = re.compile(r"(?:\.\./|decisions/|architecture\.md|contributing\.md)")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One page of Markdown without its title."""

    path: str
    title: str
    description: str
    section: str
    order: int
    body: str
    variables: Mapping[str, Any] = {}
    """Of the body, which is a Jinja template if there are any."""

    def text(self) -> str:
        """Return the body with its variables replaced."""
        if not self.variables:
            return self.body
        environment = Environment(  # noqa: S701 -- Markdown; HTML is escaped when it is rendered
            undefined=StrictUndefined, keep_trailing_newline=True
        )
        return environment.from_string(self.body).render(self.variables)


def read_sources(site: Site) -> list[Source]:
    """Return all pages except those of the API, in order within their sections."""
    found = [*_own(site), *_repository()]
    return sorted(found, key=lambda each: (SECTIONS.index(each.section), each.order))


def _own(site: Site) -> Iterator[Source]:
    values = {**site.variables(), "duration": duration}
    for path in sorted(_FOLDER.rglob("*.md")):
        if _PACKAGED in path.parents:
            continue
        name = path.relative_to(_FOLDER).with_suffix("").as_posix().removesuffix("index")
        facts, body = _split(path.read_text("utf-8"))
        yield Source(
            path=f"{ROOT}/{name}".rstrip("/"),
            title=facts["title"],
            description=facts["description"],
            section=facts["section"],
            order=int(facts["order"]),
            body=body,
            variables=values,
        )


def _split(text: str) -> tuple[dict[str, str], str]:
    _, head, body = text.split("---\n", 2)
    facts = dict(line.split(": ", 1) for line in head.strip().split("\n"))
    return facts, body.lstrip("\n")


def _repository() -> Iterator[Source]:
    """Yield the pages of the repository's index that are for operators and client developers."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    index = (folder / "README.md").read_text("utf-8")
    rows = re.findall(
        r"^\| \[([^]]+)\]\(([\w-]+\.md)\) \| ([\w ]+) \| (.+) \|$", index, re.MULTILINE
    )
    for order, (title, name, readers, description) in enumerate(rows):
        section = _SECTIONS_OF_READERS.get(readers)
        if section is None or name in _REPLACED:
            continue
        text = re.sub(r"\A(?:<!--.*?-->\s*)?# .+\n+", "", (folder / name).read_text("utf-8"))
        yield Source(
            path=path_of(name),
            title=_TITLES.get(name, title),
            description=description,
            section=section,
            order=_FIRST_OF_REPOSITORY + order,
            body=_LINK.sub(_to_site, text),
        )


def path_of(name: str) -> str:
    """Return the path of a page of the repository's `docs/`."""
    return _REPLACED.get(name, f"{ROOT}/{name.removesuffix('.md')}")


def _to_site(match: re.Match[str]) -> str:
    target, hash_sign, anchor = match[1].partition("#")
    if not target.endswith(".md") or _REPOSITORY.match(target):
        return match[0]
    return f"]({path_of(target)}{hash_sign}{anchor})"


def without_dead_links(body: str) -> str:
    """Return a page without links to files that exist only in the repository."""
    return re.sub(
        r"\[([^]]+)\]\(([^)\s]+)\)",
        lambda match: match[1] if _REPOSITORY.match(match[2]) else match[0],
        body,
    )


def duration(seconds: float) -> str:
    """Return a time span in words: `1 day`, `90 minutes`."""
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = round(seconds / size)
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return f"{seconds:g} seconds"
