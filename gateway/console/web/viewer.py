"""The signed-in user, and which pages they may open."""

from __future__ import annotations

import enum
from typing import Protocol

import msgspec


class Role(enum.Enum):
    """The rights of a member in an account. The value is used in SQL."""

    VIEWER = "viewer"
    MEMBER = "member"
    OWNER = "owner"


_RANKS = {Role.VIEWER: 1, Role.MEMBER: 2, Role.OWNER: 3}


class Access(enum.Enum):
    """The access that a page requires."""

    PUBLIC = "public"
    SIGNED_IN = "signed in"
    VIEWER = "viewer"
    MEMBER = "member"
    OWNER = "owner"
    OPERATOR = "operator"


_NEEDS = {Access.VIEWER: 1, Access.MEMBER: 2, Access.OWNER: 3}


class Membership(msgspec.Struct, frozen=True):
    """An account of the viewer, and their role in it."""

    account_id: str
    account_name: str
    role: Role
    balance_is_low: bool = False


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """A signed-in user, as the session describes them."""

    user_id: str
    name: str
    session_id: str
    login: str = ""
    is_operator: bool = False
    lacks_factor: bool = False
    """An operator who must add a second factor before the operator's pages open."""
    guide_closed: bool = False
    """The user has closed the guide to the first call."""
    memberships: tuple[Membership, ...] = ()
    account: Membership | None = None
    """The membership whose account the pages show; None: the user has no account."""
    time_zone: str | None = None
    """An IANA name; None: that of the browser, else UTC."""
    language: str | None = None
    theme: str | None = None
    views_as: bool = False
    """An operator who looks at the pages of `account`, see `web.view_as`."""
    confirmed_at: int = 0
    """When the user last proved who they are, in Unix seconds."""

    def may(self, access: Access) -> bool:
        """Return whether the viewer may open pages that need `access`."""
        if access in (Access.PUBLIC, Access.SIGNED_IN):
            return True
        if access is Access.OPERATOR:
            return self.is_operator
        return self.account is not None and _RANKS[self.account.role] >= _NEEDS[access]


class Viewers(Protocol):
    """Finds the viewer of a request."""

    async def find(self, token: str | None) -> Viewer | None:
        """Return the user whose session cookie is `token`; None: signed out."""
