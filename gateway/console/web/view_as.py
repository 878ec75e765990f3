"""
View as: an operator looks at the pages of an account, and changes nothing.

The account is in a signed cookie that only the operator's own session can use, for an hour. The
viewer then has the rights of a viewer of that account, and no page of their own below `/app`.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, Protocol

import msgspec

from gateway.console.web.viewer import Access, Membership, Role, Viewer

COOKIE: Final = "view_as"
LIVES_S: Final = 3600
PREFIX: Final = "/app"
_PURPOSE: Final = "view-as"
_LONGEST_NAME: Final = 100


class Signer(Protocol):
    """Signs short-lived values."""

    def sign(self, value: str, purpose: str, lives_s: int) -> str:
        """Return a value that `verify` accepts for `lives_s` seconds."""

    def verify(self, signed: str, purpose: str) -> str | None:
        """Return a signed value; None: it has expired, or was not signed for the purpose."""


class _Viewing(msgspec.Struct, frozen=True, array_like=True):
    session_id: str
    account_id: str
    account_name: str


def view_as_cookie(signer: Signer, viewer: Viewer, account_id: str, account_name: str) -> str:
    """Return the cookie with which an operator's session sees the pages of an account."""
    viewing = _Viewing(viewer.session_id, account_id, account_name[:_LONGEST_NAME])
    value = base64.urlsafe_b64encode(msgspec.json.encode(viewing)).decode()
    return signer.sign(value, _PURPOSE, LIVES_S)


def viewing_as(signer: Signer, viewer: Viewer, cookie: str | None, path: str) -> Viewer:
    """Return the viewer with the account that the cookie names; the same if it names none."""
    is_account_page = path == PREFIX or path.startswith(f"{PREFIX}/")
    if cookie is None or not viewer.is_operator or not is_account_page:
        return viewer
    value = signer.verify(cookie, _PURPOSE)
    if value is None:
        return viewer
    try:
        viewing = msgspec.json.decode(base64.urlsafe_b64decode(value), type=_Viewing)
    except (msgspec.MsgspecError, binascii.Error):  # of another version
        return viewer
    if viewing.session_id != viewer.session_id:
        return viewer
    account = Membership(viewing.account_id, viewing.account_name, Role.VIEWER)
    return msgspec.structs.replace(
        viewer, account=account, memberships=(account,), views_as=True, guide_closed=True
    )


def is_visible(method: str, path: str, access: Access) -> bool:
    """Return whether an operator who views an account may open a route."""
    return method == "GET" and (access is Access.VIEWER or path == PREFIX)
