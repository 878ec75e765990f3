"""
The console's secret: encrypts authenticators' secrets, signs short-lived values, keys counters.

It comes from `console.secret_env` or `console.secret_file`; else it is a file in the data directory
that the first console creates.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FILE = "console.secret"
_NONCE = 12
_SIZE = 32


class ConsoleSecret:
    """
    Keys derived from one secret.

    Args:
        secret: At least 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._seal = AESGCM(_derived(secret, b"seal"))
        self._sign = _derived(secret, b"sign")
        self._count = _derived(secret, b"count")

    def seal(self, value: bytes, owner: str) -> bytes:
        """Return an encrypted value that opens for the same owner only."""
        nonce = os.urandom(_NONCE)
        return nonce + self._seal.encrypt(nonce, value, owner.encode())

    def open(self, sealed: bytes, owner: str) -> bytes | None:
        """Return a sealed value; None: another secret or owner sealed it."""
        try:
            return self._seal.decrypt(sealed[:_NONCE], sealed[_NONCE:], owner.encode())
        except InvalidTag:
            return None

    def sign(self, value: str, purpose: str, lives_s: int) -> str:
        """Return a value that `verify` accepts for `lives_s` seconds."""
        text = f"{int(time.time()) + lives_s}.{value}"
        return f"{text}.{self._mac(text, purpose)}"

    def verify(self, signed: str, purpose: str) -> str | None:
        """Return a signed value; None: it has expired, or was not signed for the purpose."""
        text, _, mac = signed.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(text, purpose).encode()):
            return None
        expires, _, value = text.partition(".")
        return value if int(expires) > time.time() else None

    def counter(self, kind: str, name: str) -> str:
        """Return the name of a counter that does not reveal `name`."""
        return hmac.new(self._count, f"{kind}:{name}".encode(), hashlib.sha256).hexdigest()[:32]

    def _mac(self, text: str, purpose: str) -> str:
        return hmac.new(self._sign, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()


def load_secret(configured: str | None, data_dir: Path) -> ConsoleSecret:
    """
    Return the configured secret, or that of the data directory, which is created if missing.

    Raises:
        OSError: The file cannot be read or created.
    """
    if configured is not None:
        return ConsoleSecret(configured.encode())
    path = data_dir / FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return ConsoleSecret(path.read_bytes())
    with os.fdopen(descriptor, "wb") as file:
        secret = os.urandom(_SIZE)
        file.write(secret)
    return ConsoleSecret(secret)


def _derived(secret: bytes, use: bytes) -> bytes:
    return hmac.new(secret, b"capio console " + use, hashlib.sha256).digest()
