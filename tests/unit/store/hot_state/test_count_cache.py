"""What is remembered of token counts: for minutes, and for one account only so many."""

from __future__ import annotations

import asyncio

from gateway.store.hot_state.count_cache import MOST_ACCOUNTS, MOST_PER_ACCOUNT, TTL_S, CountCache


class FakeBus:
    """Keeps the commands."""

    def __init__(self) -> None:
        self.commands: list[tuple[object, ...]] = []

    def command(self, *arguments: object) -> asyncio.Future[bytes]:
        self.commands.append(arguments)
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        done.set_result(b"OK")
        return done


async def test_counts_of_one_account_are_bounded_until_they_expire() -> None:
    """A key that counts ever new bodies fills no more of Redis than its share."""
    now = [0.0]
    bus = FakeBus()
    cache = CountCache(bus, "t:", clock=lambda: now[0])  # type: ignore[arg-type]

    for number in range(MOST_PER_ACCOUNT + 7):
        cache.put(f"d{number}", b"{}", "greedy")
    cache.put("other", b"{}", "modest")

    assert len(bus.commands) == MOST_PER_ACCOUNT + 1
    assert bus.commands[-1] == (b"SET", "t:count:other", b"{}", b"EX", TTL_S)
    now[0] = TTL_S
    cache.put("later", b"{}", "greedy")
    assert bus.commands[-1][1] == "t:count:later"


async def test_counts_of_all_accounts_are_bounded() -> None:
    """Many accounts together fill no more than a fixed part of Redis."""
    bus = FakeBus()
    cache = CountCache(bus, "t:", clock=lambda: 0.0)  # type: ignore[arg-type]

    for number in range(MOST_ACCOUNTS + 7):
        cache.put("digest", b"{}", f"account {number}")

    assert len(bus.commands) == MOST_ACCOUNTS
