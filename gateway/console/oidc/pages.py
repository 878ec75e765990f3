"""Signing in with the provider, joining an account with it, and connecting it to a user."""

from __future__ import annotations

import hmac
import logging

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from gateway.console.oidc.flow import LIFE_S, Flow, authorization_url, begin, opened, sealed
from gateway.console.openid.provider import Provider, ProviderError
from gateway.console.openid.tokens import Claims, TokenRefusedError, verify
from gateway.console.signin.pages import START
from gateway.console.web.page import Page, Route, local_path
from gateway.console.web.viewer import Access
from gateway.store.accounts.audit import SYSTEM, Actor
from gateway.store.people.identities import Identity, IdentityTakenError
from gateway.store.people.links import LinkKind, LinkUsedError, Newcomer
from gateway.store.people.users import LastOwnerError, LoginTakenError, User

logger = logging.getLogger(__name__)

_CALLBACK = "/sign-in/oidc/callback"
_SECURITY = "/app/security"
_FAILED = "The sign-in did not complete. Start again."
_AWAY = "The provider does not respond. Try again, or sign in another way."
_UNKNOWN = (
    "This identity is not connected to a user. Ask for an invitation; or sign in another way and"
    " connect it under Security."
)
_CLOSED = "This service takes no new people. Sign in, then open the invitation again."
_UNVERIFIED = "The provider has not verified your mail address. Verify it there, then start again."
_LOGIN_TAKEN = (
    "This mail address is already in use. Sign in first, and connect the provider under Security."
)
_USED = "This invitation no longer works. Ask for a new one."
_ONLY_OWNER = "You are the only owner of this account, so your role stays as it is."
_IDENTITY_TAKEN = "This identity is connected to another user."


class _RefusedError(Exception):
    """The sign-in is refused; the text is for the user, in English."""


async def start(page: Page) -> Response:
    """Send the browser to the provider; with the token of an invitation, to accept it."""
    form = await page.form()
    following = local_path(form.text("next"), START)
    return await _begin(page, begin(following, invitation=form.text("token")))


async def connect(page: Page) -> Response:
    """Send the browser to the provider, to connect it to the viewer."""
    return await _begin(page, begin(f"{_SECURITY}?done=oidc", user_id=page.viewer.user_id))


async def disconnect(page: Page) -> Response:
    """Remove the viewer's identity at the provider, unless it is the only way to sign in."""
    people, provider = page.services.people, _provider(page)
    user = await people.users.get(page.viewer.user_id)
    passkeys = await people.factors.passkeys(user.id) if people.passkeys.is_available else ()
    if user.password is None and not passkeys:
        return page.redirect(f"{_SECURITY}?done=only-oidc")
    await people.identities.remove(user.id, provider.issuer, page.actor)
    return page.redirect(f"{_SECURITY}?done=oidc-removed")


async def complete(page: Page) -> Response:
    """Sign in, join or connect by the code that the browser brings from the provider."""
    cookie = page.request.cookies.get(_cookie(page), "")
    flow = opened(cookie, page.services.people.secret)
    try:
        if flow is None:
            raise _RefusedError(_FAILED)
        claims = await _claims(page, flow)
        identity = Identity(_provider(page).issuer, claims.sub)
        response = await _signed_in(page, flow, identity, claims)
    except _RefusedError as refusal:
        response = _refusal(page, str(refusal), 403)
    except ProviderError as error:
        logger.warning("oidc_provider_failed", extra={"reason": str(error)[:300]})
        response = _refusal(page, _AWAY, 503)
    response.delete_cookie(
        _cookie(page), path="/", secure=_is_secure(page), httponly=True, samesite="lax"
    )
    return response


async def _begin(page: Page, flow: Flow) -> Response:
    provider = _provider(page)
    try:
        description = await provider.description()
    except ProviderError as error:
        logger.warning("oidc_provider_failed", extra={"reason": str(error)[:300]})
        return _refusal(page, _AWAY, 503)
    url = authorization_url(flow, description, provider.client_id, _redirect_uri(page))
    response = RedirectResponse(url, 303)
    response.set_cookie(
        _cookie(page),
        sealed(flow, page.services.people.secret),
        max_age=LIFE_S,
        path="/",
        secure=_is_secure(page),
        httponly=True,
        samesite="lax",  # the callback is a navigation from the provider's site
    )
    return response


async def _claims(page: Page, flow: Flow) -> Claims:
    """Return the claims of the callback's code; raises _RefusedError and ProviderError."""
    provider, people = _provider(page), page.services.people
    is_ours = hmac.compare_digest(page.query("state").encode(), flow.state.encode())
    issuer = page.query("iss", provider.issuer)
    code = page.query("code")
    if not is_ours or issuer != provider.issuer or not code:
        raise _RefusedError(_FAILED)
    if not await people.factors.claim_form(f"oidc {flow.state}"):
        raise _RefusedError(_FAILED)
    token = await provider.exchange(code, flow.verifier, _redirect_uri(page))
    try:
        return await verify(provider, token, flow.nonce)
    except TokenRefusedError as error:
        logger.warning("oidc_token_refused", extra={"reason": str(error)[:300]})
        raise _RefusedError(_FAILED) from error


async def _signed_in(page: Page, flow: Flow, identity: Identity, claims: Claims) -> Response:
    people = page.services.people
    if flow.user_id:
        viewer = page.maybe_viewer
        if viewer is None or viewer.user_id != flow.user_id:
            raise _RefusedError(_FAILED)
        try:
            await people.identities.add(viewer.user_id, identity, page.actor)
        except IdentityTakenError:
            raise _RefusedError(_IDENTITY_TAKEN) from None
        return page.redirect(flow.following)
    user = await people.identities.find(identity)
    if user is None:
        user = await _newcomer(page, flow, identity, claims)
    elif flow.invitation:
        await _join(page, flow, user, identity)
    if user.disabled_at is not None:
        raise _RefusedError(_UNKNOWN)
    user = await _with_group(page, user, claims)
    return await page.signed_in(user, flow.following)


async def _newcomer(page: Page, flow: Flow, identity: Identity, claims: Claims) -> User:
    """Return a new user, who is invited or in the operators' group."""
    is_operator = _is_operator(page, claims)
    if not flow.invitation and not is_operator:
        raise _RefusedError(_UNKNOWN)
    login = claims.verified_email
    if not login:
        raise _RefusedError(_UNVERIFIED)
    name = (claims.name or claims.preferred_username or login)[:100]
    if flow.invitation:
        if page.services.settings.console.signup == "closed":
            raise _RefusedError(_CLOSED)
        return await _join(page, flow, Newcomer(login[:254], name, None), identity)
    try:
        return await page.services.people.identities.create_user(
            identity, login[:254], name, SYSTEM, is_operator=True
        )
    except LoginTakenError:
        raise _RefusedError(_LOGIN_TAKEN) from None


async def _join(page: Page, flow: Flow, who: Newcomer | User, identity: Identity) -> User:
    links = page.services.people.links
    try:
        await links.peek(LinkKind.INVITE, flow.invitation)
        return await links.join(flow.invitation, who, identity)
    except LinkUsedError:
        raise _RefusedError(_USED) from None
    except LoginTakenError:
        raise _RefusedError(_LOGIN_TAKEN) from None
    except IdentityTakenError:
        raise _RefusedError(_IDENTITY_TAKEN) from None
    except LastOwnerError:
        raise _RefusedError(_ONLY_OWNER) from None


async def _with_group(page: Page, user: User, claims: Claims) -> User:
    """Return the user with the rights of an operator as the provider's group says."""
    oidc = page.services.settings.console.oidc
    is_operator = _is_operator(page, claims)
    if oidc is None or oidc.operator_group is None or user.is_operator == is_operator:
        return user
    people = page.services.people
    await people.sessions.end_all(user.id)
    actor = Actor(f"user:{user.id}")
    return await people.users.change(user.id, actor, "user.operator", is_operator=is_operator)


def _is_operator(page: Page, claims: Claims) -> bool:
    oidc = page.services.settings.console.oidc
    return oidc is not None and oidc.operator_group in claims.groups


def _refusal(page: Page, text: str, status: int) -> Response:
    return page.render(
        "signin/oidc.html",
        status=status,
        headers={"cache-control": "no-store"},
        error=page.text(text),
    )


def _provider(page: Page) -> Provider:
    provider = page.services.people.provider
    if provider is None:
        raise HTTPException(404)
    return provider


def _redirect_uri(page: Page) -> str:
    return page.services.settings.brand.public_url.rstrip("/") + _CALLBACK


def _is_secure(page: Page) -> bool:
    return page.services.settings.brand.public_url.startswith("https://")


def _cookie(page: Page) -> str:
    return "__Host-oidc" if _is_secure(page) else "oidc"


ROUTES = (
    Route("POST", "/sign-in/oidc", Access.PUBLIC, start),
    Route("GET", _CALLBACK, Access.PUBLIC, complete),
    Route("POST", f"{_SECURITY}/oidc", Access.SIGNED_IN, connect, confirmed=True),
    Route("POST", f"{_SECURITY}/oidc/remove", Access.SIGNED_IN, disconnect, confirmed=True),
)
