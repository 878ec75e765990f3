"""All pages, each with the access it needs. A package of pages adds its `ROUTES` here."""

from __future__ import annotations

from gateway.console.activity.routes import ROUTES as ACTIVITY
from gateway.console.catalogue.pages import ROUTES as CATALOGUE
from gateway.console.keys.key_page import ROUTES as KEY
from gateway.console.keys.key_use import ROUTES as KEY_USE
from gateway.console.keys.list_page import ROUTES as KEYS
from gateway.console.keys.playground import ROUTES as PLAYGROUND
from gateway.console.oidc.pages import ROUTES as OIDC
from gateway.console.operators.routes import ROUTES as OPERATORS
from gateway.console.overview.pages import ROUTES as OVERVIEW
from gateway.console.profile.export import ROUTES as EXPORT
from gateway.console.profile.leaving import ROUTES as LEAVING
from gateway.console.profile.passkeys import ROUTES as PASSKEYS
from gateway.console.profile.preferences import ROUTES as PREFERENCES
from gateway.console.profile.security import ROUTES as SECURITY
from gateway.console.profile.team import ROUTES as TEAM
from gateway.console.public.docs import ROUTES as DOCS
from gateway.console.public.home import ROUTES as HOME
from gateway.console.public.models import ROUTES as MODELS
from gateway.console.public.status import ROUTES as STATUS
from gateway.console.service.routes import ROUTES as SERVICE
from gateway.console.signin.link_pages import ROUTES as LINKS
from gateway.console.signin.mail_pages import ROUTES as MAIL
from gateway.console.signin.pages import ROUTES as SIGN_IN
from gateway.console.signin.passkey_pages import ROUTES as PASSKEY_SIGN_IN
from gateway.console.signup.pages import ROUTES as SIGN_UP
from gateway.console.web.page import Route

ROUTES: tuple[Route, ...] = (
    *HOME,
    *MODELS,
    *DOCS,
    *STATUS,
    *SIGN_IN,
    *PASSKEY_SIGN_IN,
    *OIDC,
    *MAIL,
    *SIGN_UP,
    *LINKS,
    *OVERVIEW,
    *KEYS,
    *KEY,
    *KEY_USE,
    *PLAYGROUND,
    *SECURITY,
    *PASSKEYS,
    *PREFERENCES,
    *EXPORT,
    *LEAVING,
    *TEAM,
    *ACTIVITY,
    *SERVICE,
    *CATALOGUE,
    *OPERATORS,
)
