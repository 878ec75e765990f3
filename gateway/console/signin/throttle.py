"""
Limits on wrong attempts to sign in, by name and by address.

After five wrong attempts for a name there is a wait between tries, which doubles up to a minute; no
name is ever locked. An address gets 30 wrong attempts an hour. Counters live an hour under HMACs,
in Redis so that all consoles share them, or in this process while Redis is unavailable.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

from gateway.console.signin.secret import ConsoleSecret
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable, ReplyError

FREE_ATTEMPTS = 5
LONGEST_WAIT_S = 60
MOST_BY_ADDRESS = 30
MOST_MAILS = 20
"""Mails of an account an hour."""
MOST_LINKS = 5
"""Links by mail to a recipient an hour."""
MOST_LINKS_BY_ADDRESS = 20
"""Links by mail that clients at an address ask for in an hour."""
MOST_SIGN_UPS = 10
"""New users from an address an hour."""
LIFE_S = 3600
_MOST_LOCAL = 20_000
_IPV6_PREFIX = 64


class Throttle:
    """
    Counts wrong attempts.

    Args:
        redis: Keeps the counters.
        key_prefix: `redis.key_prefix`.
        secret: Hides names and addresses.
        clock: Unix seconds.
    """

    def __init__(
        self,
        redis: RedisBus,
        key_prefix: str,
        secret: ConsoleSecret,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._prefix = f"{key_prefix}signin:"
        self._secret = secret
        self._clock = clock
        self._local: dict[str, tuple[int, float]] = {}

    async def wait_s(self, login: str, address: str) -> int:
        """Return how many seconds must pass before the next attempt; 0: none."""
        wait, by_name, by_address = self._names(login, address)
        count, _ = await self._read(by_name)
        _, name_s = await self._read(wait) if count >= FREE_ATTEMPTS else (0, 0.0)
        tries, address_s = await self._read(by_address)
        longest = max(name_s, address_s if tries >= MOST_BY_ADDRESS else 0.0)
        return int(longest) + (longest > int(longest))

    async def address_wait_s(self, address: str) -> int:
        """Return how many seconds an address must wait after its wrong attempts; 0: none."""
        tries, left_s = await self._read(self._names("", address)[2])
        return int(left_s) + 1 if tries >= MOST_BY_ADDRESS else 0

    async def address_failed(self, address: str) -> None:
        """Count a wrong attempt that is for no name."""
        await self._add(self._names("", address)[2], LIFE_S)

    async def failed(self, login: str, address: str) -> None:
        """Count a wrong attempt."""
        wait, by_name, by_address = self._names(login, address)
        count = await self._add(by_name, LIFE_S)
        await self._add(by_address, LIFE_S)
        if count >= FREE_ATTEMPTS:
            await self._forget(wait)
            await self._add(wait, min(LONGEST_WAIT_S, 2 ** min(count - FREE_ATTEMPTS + 1, 6)))

    async def succeeded(self, login: str, address: str) -> None:
        """Forget the wrong attempts for a name."""
        wait, by_name, _ = self._names(login, address)
        await self._forget(wait)
        await self._forget(by_name)

    async def allows_mail(self, account_id: str) -> bool:
        """Count a mail of an account; return whether it may be sent."""
        return await self._allows("mail", account_id, MOST_MAILS)

    async def allows_link(self, recipient: str, address: str) -> bool:
        """Count a mail that a client at `address` asks for; return whether it may be sent."""
        by_address = await self._allows("link from", network_of(address), MOST_LINKS_BY_ADDRESS)
        return by_address and await self._allows("link to", recipient, MOST_LINKS)

    async def allows_sign_up(self, address: str) -> bool:
        """Count a new user from an address; return whether it may be created."""
        return await self._allows("sign-up", network_of(address), MOST_SIGN_UPS)

    async def _allows(self, kind: str, name: str, most: int) -> bool:
        """Count something for an hour; return whether it was done at most `most` times."""
        return await self._add(self._prefix + self._secret.counter(kind, name), LIFE_S) <= most

    def _names(self, login: str, address: str) -> tuple[str, str, str]:
        network = network_of(address)
        return (
            self._prefix + self._secret.counter("wait", login),
            self._prefix + self._secret.counter("name", login),
            self._prefix + self._secret.counter("address", network),
        )

    async def _read(self, name: str) -> tuple[int, float]:
        """Return a counter and its remaining life in seconds."""
        try:
            count = await self._redis.command(b"GET", name)
            left_ms = await self._redis.command(b"PTTL", name) if count is not None else 0
        except (RedisUnavailable, ReplyError):
            return self._read_local(name)
        assert isinstance(left_ms, int)
        count_read = int(count) if isinstance(count, bytes) else 0
        return count_read, max(0.0, left_ms / 1000)

    async def _add(self, name: str, life_s: int) -> int:
        """Increment a counter, which lives from its first increment on; return it."""
        try:
            count = await self._redis.command(b"INCR", name)
            if count == 1:
                await self._redis.command(b"EXPIRE", name, str(life_s))
        except (RedisUnavailable, ReplyError):
            return self._add_local(name, life_s)
        assert isinstance(count, int)
        return count

    async def _forget(self, name: str) -> None:
        self._local.pop(name, None)
        try:
            await self._redis.command(b"DEL", name)
        except (RedisUnavailable, ReplyError):
            return

    def _read_local(self, name: str) -> tuple[int, float]:
        count, until = self._local.get(name, (0, 0.0))
        left_s = until - self._clock()
        return (count, left_s) if left_s > 0 else (0, 0.0)

    def _add_local(self, name: str, life_s: int) -> int:
        count, left_s = self._read_local(name)
        until = self._clock() + (left_s if count else life_s)
        self._local.pop(name, None)
        while len(self._local) >= _MOST_LOCAL:
            del self._local[next(iter(self._local))]
        self._local[name] = (count + 1, until)
        return count + 1


def network_of(address: str) -> str:
    """Return what attempts are counted by: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
