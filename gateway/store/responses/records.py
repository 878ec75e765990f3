"""
Stored responses in Redis, bounded per account: the least recently used make room for new ones.

A response is one hash of two sealed parts. Its name is the account's hash tag and a keyed hash, so
that one script reaches all responses of an account. A sorted set orders them by their last use, and
a counter has their bytes; both expire with the youngest of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.core.stored_responses import Part, SealedParts
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Responses
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable, Reply, ReplyError
from gateway.store.redis.scripts import LuaScript, read_script
from gateway.store.redis.shards import hash_tag

_LUA = Path(__file__).parent / "lua"

MOST_BYTES: Final = 8 * 1024 * 1024
"""Compressed size of one lookup: a long reply of Redis delays the commands behind it."""
MOST_REMOVED: Final = 256
"""Responses removed to make room for one; if more were needed, the new one is not kept."""

_KEEP_ATTEMPTS: Final = 4
"""The second one declares what the first found to be removed; that may change in between."""
_RETRY_S: Final = 1.0

logger = logging.getLogger(__name__)


def response_scripts() -> list[LuaScript]:
    """Return the scripts. Reads their files."""
    return [read_script(_LUA, name) for name in ("keep", "fetch", "forget")]


class ResponseRecords:
    """
    `ports.ResponseStore` of one worker.

    Args:
        redis: Loads `response_scripts()` at connect.
        settings: The `responses` section.
        key_prefix: `redis.key_prefix`.
    """

    def __init__(self, redis: RedisBus, settings: Responses, key_prefix: str) -> None:
        self._redis = redis
        self._ttl_ms = int(settings.store_ttl_s * 1000)
        self._max_account_bytes = settings.max_account_bytes
        self._key_prefix = key_prefix
        self._keep, self._fetch, self._forget = response_scripts()

    async def keep(self, account_id: str, name: bytes, parts: SealedParts) -> bool:
        """Keep a response; return whether it is kept. Never raises."""
        start = self._start(account_id)
        keys = [start + name.hex(), *self._account_names(account_id)]
        arguments = (
            *(name.hex(), parts[Part.INPUT], parts[Part.RESPONSE]),
            *(self._ttl_ms, self._max_account_bytes, MOST_REMOVED, start),
        )
        reply: Reply = []
        try:
            for _ in range(_KEEP_ATTEMPTS):
                oldest = reply if isinstance(reply, list) else []
                names = [start + each.decode() for each in oldest if isinstance(each, bytes)]
                reply = await self._redis.script(self._keep, [*keys, *names], arguments)
                if not isinstance(reply, list):
                    break
        except (RedisUnavailable, ReplyError) as error:
            logger.warning("response_store_failed", extra={"reason": _reason(error)})
            return False
        return reply == 1

    async def fetch(
        self,
        account_id: str,
        wanted: Sequence[tuple[bytes, frozenset[Part]]],
        *,
        renew: bool,
    ) -> list[SealedParts] | None:
        """
        Return the wanted parts that exist, in order; None if they are too large together.

        Args:
            account_id: Whose responses they are.
            wanted: Names, and the parts of each.
            renew: Restart the retention period of these responses.

        Raises:
            GatewayError: STORE_UNAVAILABLE.
        """
        start = self._start(account_id)
        letters = ["".join(sorted(part.value.decode() for part in parts)) for _, parts in wanted]
        try:
            reply = await self._redis.script(
                self._fetch,
                [*self._account_names(account_id), *(start + name.hex() for name, _ in wanted)],
                (self._ttl_ms if renew else 0, MOST_BYTES, start, *letters),
            )
        except (RedisUnavailable, ReplyError) as error:
            raise _unavailable(error) from error
        if not isinstance(reply, list):
            return None
        return [_parts(row) for row in reply]

    async def forget(self, account_id: str, name: bytes) -> bool:
        """
        Remove a response; return whether there was one.

        Raises:
            GatewayError: STORE_UNAVAILABLE.
        """
        names = [self._start(account_id) + name.hex(), *self._account_names(account_id)]
        try:
            return await self._redis.script(self._forget, names, (name.hex(),)) == 1
        except (RedisUnavailable, ReplyError) as error:
            raise _unavailable(error) from error

    def _start(self, account_id: str) -> str:
        return f"{self._key_prefix}{hash_tag(account_id)}resp:"

    def _account_names(self, account_id: str) -> tuple[str, str]:
        start = f"{self._key_prefix}{hash_tag(account_id)}"
        return f"{start}resp-used:{account_id}", f"{start}resp-bytes:{account_id}"


def _parts(row: object) -> SealedParts:
    assert isinstance(row, list)
    found = zip((Part.INPUT, Part.RESPONSE), row, strict=True)
    return {part: sealed for part, sealed in found if isinstance(sealed, bytes)}


def _unavailable(error: Exception) -> GatewayError:
    return GatewayError(
        ErrorKind.STORE_UNAVAILABLE,
        "Stored responses cannot be read at the moment; the request was not run. Retry shortly, or "
        "send the full input without previous_response_id and item_reference.",
        retry_after_s=_RETRY_S,
        detail=_reason(error),
    )


def _reason(error: Exception) -> str:
    # The text of an error reply may repeat arguments of the command.
    return error.code if isinstance(error, ReplyError) else str(error)
