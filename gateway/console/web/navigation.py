"""The links of the sidebar and the header, without those whose page does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.console.web.page import Route
from gateway.console.web.view_as import PREFIX
from gateway.console.web.viewer import Access, Viewer


class Link(NamedTuple):
    """A link of the navigation. `label` is English, translated where it is shown."""

    path: str
    label: str
    icon: str


def _(message: str) -> str:
    """Mark a text for translation."""
    return message


_CUSTOMER = (
    (
        Link("/app", _("Overview"), "layout-dashboard"),
        Link("/app/api-keys", _("API keys"), "key-round"),
        Link("/app/usage", _("Usage"), "chart-column"),
        Link("/app/requests", _("Requests"), "list"),
        Link("/app/billing", _("Billing"), "credit-card"),
        Link("/app/models", _("Models"), "boxes"),
        Link("/app/playground", _("Playground"), "message-square"),
    ),
    (
        Link("/app/team", _("Team"), "users"),
        Link("/app/security", _("Security"), "shield"),
        Link("/app/settings", _("Settings"), "settings"),
    ),
    (
        Link("/docs", _("Docs"), "book-open"),
        Link("/status", _("Status"), "activity"),
    ),
)
_OPERATOR = (
    (
        Link("/admin-ui", _("Now"), "activity"),
        Link("/admin-ui/live", _("Live"), "radio"),
    ),
    (
        Link("/admin-ui/accounts", _("Accounts"), "building-2"),
        Link("/admin-ui/keys", _("Keys"), "key-round"),
        Link("/admin-ui/requests", _("Requests"), "list"),
        Link("/admin-ui/codes", _("Codes"), "ticket"),
    ),
    (
        Link("/admin-ui/providers", _("Providers"), "server"),
        Link("/admin-ui/catalogue", _("Catalogue"), "boxes"),
        Link("/admin-ui/margins", _("Margins"), "percent"),
    ),
    (
        Link("/admin-ui/audit", _("Audit"), "scroll-text"),
        Link("/admin-ui/people", _("People"), "users"),
        Link("/admin-ui/system", _("System"), "settings"),
    ),
)
_HEADER = (
    Link("/models", _("Models"), "boxes"),
    Link("/docs", _("Docs"), "book-open"),
    Link("/status", _("Status"), "activity"),
)


class Navigation:
    """
    The links to the pages that exist.

    Args:
        routes: All routes.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._needs: dict[str, Access] = {
            route.path: route.access for route in routes if route.method == "GET"
        }

    def sidebar(self, viewer: Viewer, path: str) -> list[list[Link]]:
        """Return groups of links to the pages that the viewer may open, for the page at `path`."""
        groups = _OPERATOR if path.startswith("/admin-ui") else _CUSTOMER
        shown = [[link for link in group if self._is_open(link, viewer)] for group in groups]
        return [group for group in shown if group]

    def header(self) -> Sequence[Link]:
        """Return the links on top of public pages."""
        return [link for link in _HEADER if link.path in self._needs]

    def has(self, path: str) -> bool:
        """Return whether there is a page at `path`."""
        return path in self._needs

    def current(self, path: str, viewer: Viewer) -> str:
        """Return the path of the link that leads to the page at `path`; "" if none does."""
        links = [link.path for group in self.sidebar(viewer, path) for link in group]
        fitting = [link for link in links if path == link or path.startswith(f"{link}/")]
        return max(fitting, key=len, default="")

    def _is_open(self, link: Link, viewer: Viewer) -> bool:
        access = self._needs.get(link.path)
        if access is None or not viewer.may(access):
            return False
        return not (viewer.views_as and access is Access.SIGNED_IN and link.path != PREFIX)
