"""A request for a page, with what its handler needs to respond."""

from __future__ import annotations

import datetime
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.console.web.forms import Form, read_form
from gateway.console.web.messages import Messages
from gateway.console.web.security import session_cookie
from gateway.console.web.viewer import Access, Membership, Viewer
from gateway.console.web.words import browser_of
from gateway.protocols.http.forwarded import TrustedProxies
from gateway.store.accounts.audit import Actor
from gateway.store.people.tokens import LENGTH, new_token
from gateway.store.people.users import User

if TYPE_CHECKING:
    from gateway.console.services import Services
    from gateway.console.web.templates import Templates

CONFIRMED_S = 600
_WORKERS = ("127.0.0.0/8", "::1/128")
THEMES = ("light", "dark")


class Page:
    """
    A request for a page, as its handler sees it.

    Args:
        request: The request.
        services: Stores and operations.
        templates: Renders.
        messages: The viewer's language.
        viewer: None if signed out.
    """

    def __init__(
        self,
        request: Request,
        services: Services,
        templates: Templates,
        messages: Messages,
        viewer: Viewer | None,
    ) -> None:
        self.request = request
        self.services = services
        self._templates = templates
        self._messages = messages
        self._viewer = viewer

    @property
    def maybe_viewer(self) -> Viewer | None:
        """The signed-in user, or None on public pages."""
        return self._viewer

    @property
    def viewer(self) -> Viewer:
        """The signed-in user; for pages that need one."""
        assert self._viewer is not None
        return self._viewer

    @property
    def account(self) -> Membership:
        """The account whose data the page shows; for pages that need a role in one."""
        assert self.viewer.account is not None
        return self.viewer.account

    @property
    def actor(self) -> Actor:
        """The viewer, as the audit log names them."""
        kind = "operator" if self.path.startswith("/admin-ui") else "user"
        return Actor(f"{kind}:{self.viewer.user_id}")

    @property
    def address(self) -> str:
        """
        The client's address.

        Workers set `x-forwarded-for` anew; addresses of trusted proxies are skipped from the right.
        """
        client, settings = self.request.client, self.services.settings
        trusted = TrustedProxies(
            (*_WORKERS, *settings.server.trusted_proxies, *settings.console.trusted_proxies)
        )
        return trusted.client(client.host if client else "", self.request.headers.raw)

    @property
    def session_token(self) -> str | None:
        """The token of the browser's session."""
        return self.request.cookies.get(session_cookie(self.services.settings.brand.public_url))

    @property
    def is_confirmed(self) -> bool:
        """The viewer has proved who they are within the last ten minutes."""
        return time.time() - self.viewer.confirmed_at < CONFIRMED_S

    @property
    def path(self) -> str:
        """The path of the request."""
        path: str = self.request.scope["path"]
        return path

    @property
    def theme(self) -> str:
        """The chosen theme; "" follows the system."""
        chosen = self.request.cookies.get("theme", "")
        return chosen if chosen in THEMES else ""

    @property
    def language(self) -> str:
        """The language of the texts."""
        return self._messages.language

    @property
    def can_sign_up(self) -> bool:
        """New people may open an account without an invitation."""
        return self.services.settings.console.signup in ("code", "open")

    @property
    def is_part(self) -> bool:
        """The request wants only the part of the page that changes."""
        return self.request.headers.get("hx-request") == "true"

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the query string."""
        return self.request.query_params.get(name, default)

    def name(self, parameter: str) -> str:
        """Return the part of the path that `{parameter}` of the route matches."""
        value: str = self.request.path_params[parameter]
        return value

    async def form(self) -> Form:
        """Return the form of a POST request; raises FormError."""
        return await read_form(self.request)

    async def claim(self, form: Form) -> bool:
        """Return whether a form's token, of `new_form_token`, is used for the first time."""
        token = form.text("idem")
        return len(token) == LENGTH and await self.services.people.factors.claim_form(token)

    def form_key(self, form: Form) -> str:
        """Return a form's token, for an operation that is done once for each idempotency key."""
        token = form.text("idem")
        if len(token) != LENGTH:
            raise HTTPException(422)
        return f"form:{token}"

    def new_form_token(self) -> str:
        """Return a one-time token for the hidden field `idem` of a form."""
        return new_token()

    def text(self, message: str, **values: object) -> str:
        """Return a text in the viewer's language, with `%(name)s` replaced."""
        translated = self._messages.gettext(message)
        return translated % values if values else translated

    def date(self, at: datetime.date, form: str) -> str:
        """Return a date or time in the viewer's language; `form` is that of `strftime`."""
        return at.strftime(self._messages.gettext(form))

    def render(
        self,
        template: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> Response:
        """Return a page."""
        html = self.fragment(template, **values)
        kept = {"vary": "hx-request, cookie, accept-language"}
        if self._viewer is not None:
            kept["cache-control"] = "no-store"
        return HTMLResponse(html, status, {**kept, **(headers or {})})

    def fragment(self, template: str, **values: Any) -> str:
        """Return a rendered template."""
        return self._templates.render(
            template,
            self._messages,
            page=self,
            viewer=self._viewer,
            brand=self.services.settings.brand,
            theme=self.theme or None,
            **values,
        )

    def redirect(self, path: str) -> Response:
        """Return a redirect to a page of this service, to be fetched with GET."""
        return RedirectResponse(path, 303)

    async def signed_in(self, user: User, path: str) -> Response:
        """Begin a session of `user` in this browser, and return a redirect to `path`."""
        agent = self.request.headers.get("user-agent", "")
        token = await self.services.people.sessions.begin(
            user, browser_of(agent), instead_of=self.session_token
        )
        settings = self.services.settings
        response = self.redirect(path)
        response.set_cookie(
            session_cookie(settings.brand.public_url),
            token,
            max_age=int(settings.console.session_max_s),
            path="/",
            secure=settings.brand.public_url.startswith("https://"),
            httponly=True,
            samesite="lax",
        )
        return response

    def to_confirmation(self) -> Response:
        """Return a redirect to the page that asks for the password again, then leads back here."""
        safe = self.request.method in ("GET", "HEAD")
        wanted = self.path if safe else urlsplit(self.request.headers.get("referer", "")).path
        return self.redirect(f"/confirm?next={quote(wanted or '/app', safe='')}")

    def to_sign_in(self) -> Response:
        """Return a redirect to the sign-in page, which leads back here."""
        if self.is_part:
            # The page as a whole, since the part would otherwise become the sign-in page's.
            shown = urlsplit(self.request.headers.get("hx-current-url", ""))
            wanted = f"{shown.path}?{shown.query}" if shown.query else shown.path
            return Response(headers={"hx-redirect": f"/sign-in?next={quote(wanted, safe='')}"})
        query = self.request.scope["query_string"].decode("latin-1")
        wanted = f"{self.path}?{query}" if query else self.path
        safe = self.request.method in ("GET", "HEAD")
        return self.redirect(f"/sign-in?next={quote(wanted, safe='')}" if safe else "/sign-in")


def local_path(text: str, default: str) -> str:
    """Return `text` if it is a path of this service, else `default`."""
    parts = urlsplit(text)
    is_local = text.startswith("/") and not text.startswith(("//", "/\\"))
    is_plain = not parts.scheme and not parts.netloc and text.isprintable() and "\\" not in text
    return text if is_local and is_plain else default


Handler = Callable[[Page], Awaitable[Response]]


class Route(NamedTuple):
    """
    One method of one path, the access it needs, and its handler.

    `path` may contain `{name}`, which matches one segment. With `confirmed`, the viewer must have
    proved who they are within the last ten minutes.
    """

    method: str
    path: str
    access: Access
    handle: Handler
    confirmed: bool = False
