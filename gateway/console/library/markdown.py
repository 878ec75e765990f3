"""
Renders Markdown: headings with anchors, highlighted code with a copy button, tabs, wide tables.

The sources are our own and may not contain HTML. A fenced block's info string is its language and
attributes: ```` ```sh title="Terminal" tab="curl" test=run ````. Neighbouring blocks with `tab`
become one group of tabs.
"""

from __future__ import annotations

import html
import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

_NAMES = {
    "sh": "Shell",
    "json": "JSON",
    "toml": "TOML",
    "yaml": "YAML",
    "python": "Python",
    "ts": "TypeScript",
    "http": "HTTP",
    "text": "Text",
}
_LEXERS = {"sh": "bash", "ts": "typescript"}


class Heading(msgspec.Struct, frozen=True):
    """A heading of a page, for its outline and the search."""

    level: int
    anchor: str
    text: str


class Snippet(msgspec.Struct, frozen=True):
    """A fenced block."""

    language: str
    text: str
    title: str = ""
    tab: str = ""
    test: str = ""
    """How tests run it: `run`, or the name of a client of `tests/agents`."""


class Rendered(msgspec.Struct, frozen=True):
    """A page's body."""

    html: str
    headings: tuple[Heading, ...]
    snippets: tuple[Snippet, ...]

    @property
    def safe_html(self) -> Markup:
        """The HTML, not escaped by templates: the sources are our own and contain no HTML."""
        return Markup(self.html)  # noqa: S704 -- see above


def anchor_of(text: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", text).lower().strip().replace(" ", "-")


def read_snippet(token: Token) -> Snippet:
    """Return a fenced block with the attributes of its info string."""
    words = shlex.split(token.info)
    language = words[0] if words else "text"
    given = dict(word.split("=", 1) for word in words[1:])
    return Snippet(language, token.content, **given)


def render(source: str) -> Rendered:
    """Return Markdown as HTML, with its headings and code."""
    parser = MarkdownIt("commonmark", {"html": False, "typographer": False}).enable("table")
    tokens = parser.parse(source)
    headings = tuple(_name_headings(tokens))
    snippets = [read_snippet(token) for token in tokens if token.type == "fence"]
    writer, renderer = _Writer(), RendererHTML(parser)
    for name in ("fence", "table_open", "table_close", "heading_close", "td_open", "th_open"):
        renderer.rules[name] = getattr(writer, name)
    body = renderer.render(tokens, parser.options, {})
    return Rendered(body, headings, tuple(snippets))


def _name_headings(tokens: Sequence[Token]) -> Iterator[Heading]:
    seen: dict[str, int] = {}
    for opening, inline in itertools.pairwise(tokens):
        if opening.type != "heading_open":
            continue
        text = plain(inline)
        anchor = anchor_of(text)
        count = seen.get(anchor, 0)
        seen[anchor] = count + 1
        anchor = f"{anchor}-{count}" if count else anchor
        opening.attrSet("id", anchor)
        opening.meta["anchor"] = anchor
        yield Heading(int(opening.tag[1]), anchor, text)


def plain(inline: Token) -> str:
    """Return the text of an inline token without its markup."""
    return "".join(each.content for each in inline.children or [])


class _Writer:
    """Render rules for the tokens of one page; numbers its blocks."""

    def __init__(self) -> None:
        self._blocks = 0

    def fence(self, tokens: Sequence[Token], at: int, *_rest: Any) -> str:
        snippet = read_snippet(tokens[at])
        if not snippet.tab:
            return self._figure(snippet)
        group = list(_tabs_from(tokens, at))
        first = at > 0 and tokens[at - 1].type == "fence" and read_snippet(tokens[at - 1]).tab
        return "" if first else self._tabs(group)

    def table_open(self, *_: Any) -> str:
        return '<div class="table-wrap" tabindex="0"><table class="table">\n'

    def table_close(self, *_: Any) -> str:
        return "</table></div>\n"

    def td_open(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return _cell("td", tokens[at])

    def th_open(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return _cell('th scope="col"', tokens[at])

    def heading_close(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        anchor = tokens[at - 2].meta["anchor"]
        label = html.escape(plain(tokens[at - 1]))
        link = f'<a class="anchor" href="#{anchor}" aria-label="Link to {label}">#</a>'
        return f"{link}</{tokens[at].tag}>\n"

    def _tabs(self, group: Sequence[Snippet]) -> str:
        number = self._blocks
        buttons, panels = [], []
        for each in group:
            name = anchor_of(each.tab)
            ids = (
                f'id="tab{number}-{name}-tab" data-tab="{name}" aria-controls="tab{number}-{name}"'
            )
            buttons.append(
                f'<button type="button" role="tab" {ids}>{html.escape(each.tab)}</button>'
            )
            labelled = f'role="tabpanel" aria-labelledby="tab{number}-{name}-tab"'
            panels.append(f'<div id="tab{number}-{name}" {labelled}>{self._figure(each)}</div>')
        tabs = "".join(buttons)
        return (
            '<div class="code-tabs"><div class="tabs" role="tablist" aria-label="Client" hidden>'
            f"{tabs}</div>{''.join(panels)}</div>\n"
        )

    def _figure(self, snippet: Snippet) -> str:
        self._blocks += 1
        block = f"code{self._blocks}"
        title = snippet.title or _NAMES.get(snippet.language, snippet.language)
        copy = (
            f'<button type="button" class="button quiet small" data-copy="{block}"'
            ' data-done="Copied" data-failed="Press Ctrl+C"><span>Copy</span></button>'
        )
        return (
            f'<figure class="code"><header><span>{html.escape(title)}</span>{copy}</header>'
            f'<pre id="{block}" tabindex="0"><code>{highlight(snippet)}</code></pre></figure>\n'
        )


def _cell(tag: str, token: Token) -> str:
    # Markdown's alignment is a `style`, which the pages' policy forbids.
    return f'<{tag} class="number">' if "right" in str(token.attrGet("style")) else f"<{tag}>"


def _tabs_from(tokens: Sequence[Token], at: int) -> Iterator[Snippet]:
    for token in tokens[at:]:
        if token.type != "fence" or not (snippet := read_snippet(token)).tab:
            return
        yield snippet


def highlight(snippet: Snippet) -> str:
    """Return code as HTML with Pygments' short classes."""
    try:
        lexer = get_lexer_by_name(_LEXERS.get(snippet.language, snippet.language))
    except ClassNotFound:
        return html.escape(snippet.text)
    parts: list[str] = []
    classes = ((_class_of(kind), text) for kind, text in lexer.get_tokens(snippet.text))
    for name, group in itertools.groupby(classes, key=lambda each: each[0]):
        escaped = html.escape("".join(text for _, text in group), quote=False)
        parts.append(f'<span class="{name}">{escaped}</span>' if name else escaped)
    return "".join(parts).rstrip("\n") + "\n"


def marked(snippet: Snippet) -> Markup:
    """Return highlighted code for templates."""
    return Markup(highlight(snippet).rstrip("\n"))  # noqa: S704 -- its text was escaped


_CLASSES = {
    "Token.Comment": "c",
    "Token.Literal.String": "s",
    "Token.Literal.Number": "n",
    "Token.Keyword": "k",
    "Token.Name.Tag": "t",
    "Token.Name.Variable": "v",
    "Token.Name.Builtin": "b",
    "Token.Name.Function": "f",
}


def _class_of(kind: Any) -> str:
    """Return one of eight classes, so that a page's code stays small."""
    while kind is not None:
        if (name := _CLASSES.get(str(kind))) is not None:
            return name
        kind = kind.parent
    return ""
