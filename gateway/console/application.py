"""The ASGI application: routing, access, errors, security headers and static files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from gateway.console.memory import is_out_of_memory
from gateway.console.services import Services
from gateway.console.signin.passwords import PasswordsBusyError
from gateway.console.web.forms import FormError
from gateway.console.web.messages import choose_language
from gateway.console.web.navigation import Navigation
from gateway.console.web.page import Page, Route
from gateway.console.web.security import (
    SAFE_METHODS,
    is_same_origin,
    origin_of,
    security_headers,
    session_cookie,
)
from gateway.console.web.static import PREFIX, StaticFiles
from gateway.console.web.templates import Templates
from gateway.console.web.view_as import COOKIE as VIEW_AS
from gateway.console.web.view_as import is_visible, viewing_as
from gateway.console.web.viewer import Access, Viewers
from gateway.errors import ErrorKind, GatewayError
from gateway.store.accounts.accounts import AccountClosedError

logger = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent


class Application:
    """
    Responds to all requests of the console.

    Args:
        services: Stores and operations.
        viewers: Finds the signed-in user.
        routes: The pages.
    """

    def __init__(self, services: Services, viewers: Viewers, routes: Sequence[Route]) -> None:
        self._services = services
        self._viewers = viewers
        self.static = StaticFiles(_FOLDER / "static")
        self.templates = Templates(_FOLDER / "templates", self.static, Navigation(routes))
        public_url = services.settings.brand.public_url
        oidc = services.settings.console.oidc
        form_actions = () if oidc is None else (origin_of(oidc.issuer),)
        self._headers = security_headers(public_url, form_actions)
        self.cookie = session_cookie(public_url)
        self._router = Router(
            [
                StarletteRoute(route.path, self._endpoint(route), methods=[route.method])
                for route in routes
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["path"].startswith(PREFIX):
            response = self._static_file(Request(scope))
            await response(scope, receive, send_secured)
            return
        try:
            if scope["method"] not in SAFE_METHODS and not is_same_origin(Headers(scope=scope)):
                raise HTTPException(403)
            scope["app"] = self  # so that the router raises instead of writing a plain 404
            await self._router(scope, receive, send_secured)
        except Exception as error:  # the root of a request
            if is_out_of_memory(error):
                raise
            response = await self._refusal(Request(scope), error)
            await response(scope, receive, send_secured)

    def _endpoint(self, route: Route) -> Any:
        async def endpoint(request: Request) -> Response:
            page = await self._page(request)
            viewer = page.maybe_viewer
            if viewer is None and route.access is not Access.PUBLIC:
                return page.to_sign_in()
            if viewer is not None and not viewer.may(route.access):
                # For others, operators' pages do not exist.
                raise HTTPException(404 if route.access is Access.OPERATOR else 403)
            if viewer is not None and viewer.views_as:
                if not is_visible(route.method, route.path, route.access):
                    raise HTTPException(403)
            elif viewer is not None and route.confirmed and not page.is_confirmed:
                return page.to_confirmation()
            return await route.handle(page)

        return endpoint

    async def _page(self, request: Request) -> Page:
        token = request.cookies.get(self.cookie)
        viewer = None if token is None else await self._viewers.find(token)
        if viewer is not None:
            signer, cookie = self._services.people.secret, request.cookies.get(VIEW_AS)
            viewer = viewing_as(signer, viewer, cookie, request.scope["path"])
        messages = choose_language(
            request.cookies.get("language") or (viewer.language if viewer else None),
            request.headers.get("accept-language", ""),
            self._services.languages,
        )
        return Page(request, self._services, self.templates, messages, viewer)

    def _static_file(self, request: Request) -> Response:
        found = self.static.find(request.scope["path"])
        if found is None or request.method not in SAFE_METHODS:
            return Response("Not found.\n", 404, media_type="text/plain")
        headers = {
            "cache-control": "public, max-age=31536000, immutable",
            "vary": "accept-encoding",
        }
        content = found.content
        if found.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            content = found.compressed
            headers["content-encoding"] = "gzip"
        return Response(content, headers=headers, media_type=found.media_type)

    async def _refusal(self, request: Request, error: Exception) -> Response:
        """Return the page that describes an error."""
        if isinstance(error, AccountClosedError):
            error = FormError(409, "This account was closed by its owners. Use another account.")
        status, headers = _status_of(error), {}
        if status == 503:
            headers["retry-after"] = "2"
        if status == 500:
            logger.error("page_failed", extra={"path": request.scope["path"]}, exc_info=error)
        signed_out = status in (500, 503)  # the lookup of the session may be what failed
        try:
            page = await self._error_page(request, signed_out=signed_out)
        except GatewayError:
            page = await self._error_page(request, signed_out=True)
        detail = str(error) if isinstance(error, FormError) else None
        return page.render("error.html", status=status, headers=headers, code=status, detail=detail)

    async def _error_page(self, request: Request, *, signed_out: bool) -> Page:
        if not signed_out:
            return await self._page(request)
        messages = choose_language(None, "", self._services.languages)
        return Page(request, self._services, self.templates, messages, None)


def _status_of(error: Exception) -> int:
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, FormError):
        return error.status
    if isinstance(error, PasswordsBusyError):
        return 503
    if isinstance(error, GatewayError) and error.kind is ErrorKind.STORE_UNAVAILABLE:
        return 503
    return 500
