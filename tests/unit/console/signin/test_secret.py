"""The console's secret: sealed values, signatures that expire, and its file."""

from __future__ import annotations

from pathlib import Path

from gateway.console.signin.secret import ConsoleSecret, load_secret

SECRET = ConsoleSecret(b"s" * 32)


def test_sealed_values_open_for_their_owner_only() -> None:
    """A row copied to another user, a changed byte and another secret open nothing."""
    sealed = SECRET.seal(b"totp", "user_1")

    assert SECRET.open(sealed, "user_1") == b"totp"
    assert SECRET.open(sealed, "user_2") is None
    assert SECRET.open(sealed[:-1] + b"x", "user_1") is None
    assert ConsoleSecret(b"t" * 32).open(sealed, "user_1") is None


def test_signed_values_expire_and_serve_one_purpose() -> None:
    """And cannot be made without the secret."""
    signed = SECRET.sign("user_1", "login", 60)

    assert SECRET.verify(signed, "login") == "user_1"
    assert SECRET.verify(signed, "other") is None
    assert SECRET.verify(SECRET.sign("user_1", "login", -1), "login") is None
    assert SECRET.verify(signed.replace("user_1", "user_2"), "login") is None
    assert SECRET.verify("", "login") is None
    assert SECRET.verify("é.é.é", "login") is None


def test_file_is_created_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    """A second console of the same data directory has the same secret."""
    first, second = load_secret(None, tmp_path), load_secret(None, tmp_path)

    assert (tmp_path / "console.secret").stat().st_mode & 0o777 == 0o600
    assert second.open(first.seal(b"x", "y"), "y") == b"x"
    assert load_secret("configured" * 4, tmp_path).open(first.seal(b"x", "y"), "y") is None
