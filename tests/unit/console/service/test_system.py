"""The page about the stores and the files of others."""

from __future__ import annotations

from gateway.console.service.system import vendored


def test_files_of_others_have_a_licence() -> None:
    """As VENDOR.toml names them."""
    assert {"0BSD", "OFL-1.1", "ISC"} <= {each["license"] for each in vendored()}
