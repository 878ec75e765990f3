"""Roles include those below them; operators are apart."""

from __future__ import annotations

import pytest

from gateway.console.web.viewer import Access, Role
from tests.support.console import viewer


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.VIEWER, {Access.VIEWER}),
        (Role.MEMBER, {Access.VIEWER, Access.MEMBER}),
        (Role.OWNER, {Access.VIEWER, Access.MEMBER, Access.OWNER}),
    ],
)
def test_roles_include_those_below(role: Role, allowed: set[Access]) -> None:
    """An owner may do what members and viewers may, but not what operators may."""
    someone = viewer("acct_1", role)

    assert {access for access in Access if someone.may(access)} == {
        *allowed,
        Access.PUBLIC,
        Access.SIGNED_IN,
    }


def test_operators_have_no_account_by_that() -> None:
    """The operator's flag opens the operator's pages only."""
    operator = viewer("acct_1", Role.VIEWER, is_operator=True)

    assert operator.may(Access.OPERATOR)
    assert not operator.may(Access.OWNER)
