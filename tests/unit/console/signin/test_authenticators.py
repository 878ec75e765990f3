"""Authenticators: the codes of RFC 6238, their window, and recovery codes."""

from __future__ import annotations

import pytest

from gateway.console.signin import authenticators

SECRET = b"12345678901234567890"  # of RFC 6238, appendix B


@pytest.mark.parametrize(
    ("code", "now", "step"),
    [
        ("287082", 59, 1),
        ("287 082", 89, 1),
        ("287082", 0, 1),
        ("287082", 120, None),
        ("081804", 1111111109, 37037036),
        ("287083", 59, None),
        ("28708", 59, None),
        ("28708x", 59, None),
        ("٢٨٧٠٨٢", 59, None),
        ("", 59, None),
    ],
)
def test_codes_of_the_last_this_and_the_next_step_match(
    code: str, now: int, step: int | None
) -> None:
    """A clock may be half a minute off."""
    assert authenticators.matching_step(SECRET, code, now) == step


def test_uri_and_qr_code_carry_the_secret() -> None:
    """As authenticator apps read them."""
    uri = authenticators.provisioning_uri(SECRET, "ada@example.com", "Ca pio")

    assert uri == (
        "otpauth://totp/Ca%20pio%3Aada%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
        "&issuer=Ca%20pio&digits=6&period=30"
    )
    assert authenticators.qr_code(uri).startswith(b"<?xml")


def test_recovery_codes_are_read_as_people_type_them() -> None:
    """Ten different ones; case, spaces and dashes do not matter."""
    codes = authenticators.new_recovery_codes()

    assert len(set(codes)) == 10
    assert authenticators.normal_code(f" {codes[0].upper().replace('-', ' ')} ") == codes[0]
