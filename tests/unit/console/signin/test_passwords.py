"""Passwords: hashes with today's parameters, refusal of weak ones, and a bounded queue."""

from __future__ import annotations

import asyncio

import pytest

from gateway.console.signin.passwords import (
    MOST_RUNNING,
    MOST_WAITING,
    Passwords,
    PasswordsBusyError,
    is_outdated,
)

GOOD = "seven quiet herons cross"


async def test_only_the_password_itself_verifies() -> None:
    """And an unknown user's never does."""
    passwords = Passwords()
    hashed = await passwords.hash(GOOD)

    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(GOOD, hashed)
    assert not await passwords.verify(GOOD + " ", hashed)
    assert not await passwords.verify(GOOD, None)
    assert not is_outdated(hashed)
    assert is_outdated(hashed.replace("t=2", "t=1"))


@pytest.mark.parametrize(
    ("password", "word"),
    [
        ("short one", "12"),
        ("x" * 257, "256"),
        ("password1234", "guessed"),
        ("ada.lovelace1815", "guessed"),
        ("aaaaaaaaaaaaaaaaaaa", "guessed"),
    ],
)
async def test_weak_passwords_are_refused_with_the_reason(password: str, word: str) -> None:
    """By length, by what is common, and by the user's own names."""
    refusal = await Passwords().weakness(password, ["ada.lovelace", "Ada Lovelace", "1815"])

    assert refusal is not None
    assert word in refusal


async def test_long_phrases_are_accepted() -> None:
    """No rules of composition."""
    assert await Passwords().weakness(GOOD, ["ada"]) is None


async def test_queue_is_bounded() -> None:
    """Beyond two running and ten waiting, the next is refused at once."""
    passwords = Passwords()
    tasks = [asyncio.create_task(passwords.hash(GOOD)) for _ in range(MOST_RUNNING + MOST_WAITING)]
    await asyncio.sleep(0)

    with pytest.raises(PasswordsBusyError):
        await passwords.hash(GOOD)
    await asyncio.gather(*tasks)
    assert await passwords.hash(GOOD)
