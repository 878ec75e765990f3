"""Redirects stay within the service."""

from __future__ import annotations

import pytest

from gateway.console.web.page import local_path


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("/app/usage?from=1", "/app/usage?from=1"),
        ("//evil.test", "/app"),
        ("/\\evil.test", "/app"),
        ("/a\\b", "/app"),
        ("https://evil.test/", "/app"),
        ("app", "/app"),
        ("", "/app"),
        ("/a\nb", "/app"),
    ],
)
def test_only_paths_of_this_service_are_followed(text: str, result: str) -> None:
    """Anything that a browser could take for another origin becomes the default."""
    assert local_path(text, "/app") == result
