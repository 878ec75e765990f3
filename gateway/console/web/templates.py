"""Renders Jinja templates: autoescaped, translated, with links to static files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from gateway.console.web import words
from gateway.console.web.messages import Messages
from gateway.console.web.navigation import Navigation
from gateway.console.web.static import StaticFiles


class Templates:
    """
    All templates, compiled at their first use and kept.

    Args:
        folder: Where they are.
        static: Finds the URLs of static files.
        navigation: The links of the sidebar and the header.
    """

    def __init__(self, folder: Path, static: StaticFiles, navigation: Navigation) -> None:
        self.environment = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            extensions=["jinja2.ext.i18n"],
        )
        self.environment.install_gettext_callables(  # type: ignore[attr-defined]
            _gettext, _ngettext, newstyle=True
        )
        self.environment.globals.update(static=static.url, navigation=navigation, _=_gettext)
        self.environment.filters.update(words.FILTERS, ago=_ago, day=_day, browser=_browser)

    def render(self, template: str, messages: Messages, **values: Any) -> str:
        """Return a rendered template."""
        return self.environment.get_template(template).render(messages=messages, **values)


@pass_context
def _ago(context: Context, unix_s: int, now_s: int) -> str:
    messages: Messages = context["messages"]
    return words.ago(unix_s, now_s, messages.gettext)


@pass_context
def _day(context: Context, unix_s: int, zone: str = "UTC") -> str:
    messages: Messages = context["messages"]
    return words.day(unix_s, zone, messages.gettext)


@pass_context
def _browser(context: Context, found: str) -> str:
    messages: Messages = context["messages"]
    return words.browser_name(found, messages.gettext)


@pass_context
def _gettext(context: Context, message: str, /, **values: object) -> Markup:
    """Return a translation with its values; what Jinja makes of it takes four times as long."""
    messages: Messages = context["messages"]
    text = messages.gettext(message)
    # The texts are our own, as for Jinja; values are escaped.
    return Markup(text) % values if values else Markup(text.replace("%%", "%"))  # noqa: S704


@pass_context
def _ngettext(context: Context, singular: str, plural: str, n: int) -> str:
    messages: Messages = context["messages"]
    return messages.ngettext(singular, plural, n)
