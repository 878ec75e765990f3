"""Requests of other sites are refused; the policy allows nothing but this origin."""

from __future__ import annotations

import pytest

from gateway.console.web.security import is_same_origin, policy, security_headers


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "https://a.test", "host": "a.test"}, False),
        ({"origin": "https://a.test", "host": "a.test"}, True),
        ({"origin": "https://a.test:8443", "host": "a.test:8443"}, True),
        ({"origin": "https://b.test", "host": "a.test"}, False),
        ({"origin": "null", "host": "a.test"}, False),
        ({"origin": "https://", "host": ""}, True),
        ({"host": "a.test"}, False),
        ({}, False),
    ],
)
def test_only_pages_of_this_origin_may_change_something(
    headers: dict[str, str], accepted: bool
) -> None:
    """`sec-fetch-site` decides; without it, `origin` must be that of the host."""
    assert is_same_origin(headers) is accepted


def test_policy_allows_own_files_and_named_form_targets() -> None:
    """No inline script or style, and forms go to this origin and those named."""
    assert "script-src 'self';" in policy()
    assert "unsafe" not in policy()
    assert "form-action 'self' https://id.test;" in policy(("https://id.test",))


def test_transport_security_is_for_services_on_https() -> None:
    """A service on plain HTTP does not ask browsers for HTTPS."""
    assert "strict-transport-security" not in security_headers("http://a.test")
    assert security_headers("https://a.test")["strict-transport-security"] == "max-age=31536000"
