"""
Passwords: hashes them with Argon2id as PHC strings, and rejects those that are easily guessed.

A hash takes about 50 ms of CPU time and 19 MiB, so the number that run and wait is limited.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

SHORTEST = 12
LONGEST = 256
MOST_RUNNING = 2
MOST_WAITING = 10
_JUDGED = 72  # characters: the strength estimate is not linear in the length
_GOOD_SCORE = 3
_MEMORY_KIB = 19 * 1024
_ITERATIONS = 2
_LANES = 1
Result = TypeVar("Result")
_PARAMETERS = f"$argon2id$v=19$m={_MEMORY_KIB},t={_ITERATIONS},p={_LANES}$"
_NO_ONES = f"{_PARAMETERS}{'A' * 22}${'A' * 43}"
"""Compared with the passwords of unknown users: zero bytes, which are the hash of no password."""


class PasswordsBusyError(Exception):
    """Too many passwords are being checked."""


class Passwords:
    """Hashes and verifies passwords in threads."""

    def __init__(self) -> None:
        # Threads of their own: each keeps a heap, which other threads would enlarge as well.
        self._threads = ThreadPoolExecutor(MOST_RUNNING, thread_name_prefix="passwords")
        self._admitted = 0

    async def hash(self, password: str) -> str:
        """Return the PHC string of a password; raises PasswordsBusyError."""
        return await self._run(_hash, password)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """
        Return whether a password has this hash; None, for unknown users, takes the same time.

        Raises:
            PasswordsBusyError: Too many are being checked.
        """
        matches = await self._run(_verify, password, hashed or _NO_ONES)
        return matches and hashed is not None

    async def weakness(self, password: str, context: list[str]) -> str | None:
        """
        Return why a new password is rejected, in English; None if it is accepted.

        Args:
            password: Of any length.
            context: What an attacker would try: names of the user and of the service.
        """
        if len(password) < SHORTEST:
            return "Use at least 12 characters."
        if len(password) > LONGEST:
            return "Use at most 256 characters."
        score = await self._run(_score, password, context)
        if score < _GOOD_SCORE:
            return "This is easily guessed. Add a few unrelated words."
        return None

    async def _run(self, work: Callable[..., Result], *arguments: object) -> Result:
        if self._admitted >= MOST_RUNNING + MOST_WAITING:
            raise PasswordsBusyError
        self._admitted += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work, *arguments)
        finally:
            self._admitted -= 1


def is_outdated(hashed: str) -> bool:
    """Return whether a hash was made with other parameters than today's."""
    return not hashed.startswith(_PARAMETERS)


def _hash(password: str) -> str:
    return _argon2().derive_phc_encoded(password.encode())


def _verify(password: str, hashed: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password.encode("utf-8", "replace")[: LONGEST * 4], hashed)
    except InvalidKey:
        return False
    return True


def _score(password: str, context: list[str]) -> int:
    from zxcvbn import zxcvbn  # noqa: PLC0415 -- 60 ms of dictionaries, only for new passwords

    found: int = zxcvbn(password[:_JUDGED], user_inputs=context)["score"]
    return found


def _argon2() -> Argon2id:
    return Argon2id(
        salt=os.urandom(16),
        length=32,
        iterations=_ITERATIONS,
        lanes=_LANES,
        memory_cost=_MEMORY_KIB,
    )
