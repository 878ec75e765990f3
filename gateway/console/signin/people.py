"""What signing in needs: the tables about people, passwords, limits and the secret."""

from __future__ import annotations

from pathlib import Path

from gateway.console.openid.provider import Provider
from gateway.console.signin.mail import Mailer, Outbox
from gateway.console.signin.passkeys import Passkeys
from gateway.console.signin.passwords import Passwords
from gateway.console.signin.secret import load_secret
from gateway.console.signin.throttle import Throttle
from gateway.console.web.viewer import Membership, Role, Viewer
from gateway.settings import Secrets, Settings
from gateway.settings.urls import is_loopback
from gateway.store.people.factors import Factors
from gateway.store.people.identities import Identities
from gateway.store.people.links import Links
from gateway.store.people.sessions import Lifetimes, Sessions, SignedIn
from gateway.store.people.sign_ups import SignUps
from gateway.store.people.users import Users
from gateway.store.redis.bus import RedisBus
from gateway.store.sql.database import Database


class People:
    """
    Users, their sessions and ways to sign in. It finds the viewer of a request.

    Args:
        settings: The `console` section and the data directory.
        secrets: Holds the console's secret, if one is configured.
        database: SQL.
        redis: Counts wrong attempts.

    Raises:
        OSError: The secret's file cannot be read or created.
    """

    def __init__(
        self, settings: Settings, secrets: Secrets, database: Database, redis: RedisBus
    ) -> None:
        console = settings.console
        self.users = Users(database)
        self.sessions = Sessions(database, Lifetimes(console.session_idle_s, console.session_max_s))
        self.links = Links(database)
        self.sign_ups = SignUps(database)
        self.factors = Factors(database)
        self.identities = Identities(database)
        self.provider = None if console.oidc is None else Provider(console.oidc, secrets.oidc)
        self.passwords = Passwords()
        self.secret = load_secret(secrets.console, Path(settings.server.data_dir))
        self.passkeys = Passkeys(
            settings.brand.public_url, settings.brand.name, self.secret, self.factors
        )
        self.mailer = (
            None
            if console.mail is None
            else Mailer(console.mail, secrets.mail, settings.brand.name)
        )
        self.outbox = Outbox()
        self.throttle = Throttle(redis, settings.redis.key_prefix, self.secret)
        is_local = is_loopback(settings.brand.public_url)
        self._operators_need_factor = console.operator_2fa and not is_local

    async def find(self, token: str | None) -> Viewer | None:
        """Return the viewer whose session has this token; None: signed out."""
        signed_in = None if token is None else await self.sessions.find(token)
        return None if signed_in is None else self._viewer(signed_in)

    def _viewer(self, signed_in: SignedIn) -> Viewer:
        session, user = signed_in.session, signed_in.user
        memberships = tuple(
            Membership(each.account_id, each.account_name, Role(each.role), each.balance_is_low)
            for each in signed_in.accounts
        )
        chosen = [each for each in memberships if each.account_id == session.account_id]
        lacks_factor = user.is_operator and self._operators_need_factor
        lacks_factor = lacks_factor and not signed_in.has_second_factor
        return Viewer(
            user_id=user.id,
            name=user.name,
            login=user.login,
            session_id=session.id,
            is_operator=user.is_operator and not lacks_factor,
            lacks_factor=lacks_factor,
            memberships=memberships,
            account=next(iter([*chosen, *memberships]), None),
            time_zone=user.time_zone,
            language=user.language,
            confirmed_at=session.confirmed_at,
            guide_closed=user.guide_closed_at is not None,
        )
