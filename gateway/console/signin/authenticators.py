"""Authenticator apps (TOTP, RFC 6238) and the recovery codes that stand in for them."""

from __future__ import annotations

import base64
import io
import secrets
import time
from urllib.parse import quote

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor import InvalidToken
from cryptography.hazmat.primitives.twofactor.totp import TOTP

SECRET_BYTES = 20
RECOVERY_CODES = 10
_STEP_S = 30
_DIGITS = 6
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_CODE_LENGTH = 10


def new_secret() -> bytes:
    """Return the secret of a new authenticator."""
    return secrets.token_bytes(SECRET_BYTES)


def matching_step(secret: bytes, code: str, now: float | None = None) -> int | None:
    """Return the previous, current or next time step with this code; None if none has it."""
    digits = code.replace(" ", "")
    if len(digits) != _DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    totp = _totp(secret)
    this = int((time.time() if now is None else now) // _STEP_S)
    for step in (this, max(0, this - 1), this + 1):
        try:
            totp.verify(digits.encode(), step * _STEP_S)
        except InvalidToken:
            continue
        return step
    return None


def provisioning_uri(secret: bytes, login: str, issuer: str) -> str:
    """Return the `otpauth` URI that authenticator apps read from the QR code."""
    label = quote(f"{issuer}:{login}")
    return (
        f"otpauth://totp/{label}?secret={readable(secret)}&issuer={quote(issuer)}"
        f"&digits={_DIGITS}&period={_STEP_S}"
    )


def readable(secret: bytes) -> str:
    """Return a secret in base 32, to be typed."""
    return base64.b32encode(secret).decode().rstrip("=")


def qr_code(text: str) -> bytes:
    """Return a QR code as an SVG image."""
    import segno  # noqa: PLC0415 -- only for new authenticators

    image = io.BytesIO()
    segno.make(text, error="m").save(image, kind="svg", scale=4, border=2, light="#fff")
    return image.getvalue()


def new_recovery_codes() -> list[str]:
    """Return new recovery codes, in two groups of five characters."""
    return [
        "-".join(
            "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH // 2)) for _ in range(2)
        )
        for _ in range(RECOVERY_CODES)
    ]


def normal_code(text: str) -> str:
    """Return a recovery code as it was shown: in lower case, with its dash."""
    plain = "".join(text.split()).replace("-", "").lower()
    return f"{plain[: _CODE_LENGTH // 2]}-{plain[_CODE_LENGTH // 2 :]}"


def _totp(secret: bytes) -> TOTP:
    # SHA-1 and six digits are what authenticator apps support.
    return TOTP(secret, _DIGITS, SHA1(), _STEP_S)  # noqa: S303
