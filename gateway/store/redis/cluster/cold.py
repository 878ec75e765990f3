"""
redis-py's commands over the cluster client, for use outside the hot path.

redis-py encodes arguments and parses replies; the commands go over a `ClusterRedis`, so that both
paths agree on the topology and on what a lost master means: a pipeline has a result or an error
for each of its commands, and those for other masters do not wait.
"""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio
from redis._parsers.base import BaseParser
from redis.commands import AsyncCoreCommands
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gateway.store.redis.address import RedisAddress
from gateway.store.redis.client import RedisLimits, RedisUnavailable
from gateway.store.redis.cluster.client import ClusterRedis
from gateway.store.redis.connection import Reply, ReplyError


class ClusterClient(redis.asyncio.Redis):
    """
    A `redis.asyncio.Redis` whose commands go to the masters of a cluster. It connects on first use.

    Args:
        target: The cluster.
        timeout_s: The deadline of a command.
    """

    def __init__(self, target: RedisAddress, timeout_s: float) -> None:
        super().__init__(protocol=2)  # for its encoder and parsers; it does not connect
        self._target = target
        self._timeout_s = timeout_s
        self._bus: ClusterRedis | None = None
        self._starting: asyncio.Task[None] | None = None

    async def bus(self) -> ClusterRedis:
        """Return the client of the cluster, connected if the cluster responds."""
        if self._bus is None:
            limits = RedisLimits(command_timeout_s=self._timeout_s)
            self._bus = ClusterRedis(self._target, limits)
            self._starting = asyncio.create_task(self._bus.start())
        if self._starting is not None:
            await asyncio.shield(self._starting)
        return self._bus

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command on the master of its key; raise RedisError."""
        words, encoded = self._encode(args)
        bus = await self.bus()
        try:
            reply = await bus.command(*words, *encoded)
        except (RedisUnavailable, ReplyError) as error:
            raise _error_of(error) from error
        return self._parsed(args[0], reply, options)

    def pipeline(self, transaction: Any = False, shard_hint: Any = None) -> Any:  # noqa: ARG002 -- redis-py's
        """Return a pipeline; there are no transactions over several masters."""
        return _Pipeline(self)

    async def aclose(self, close_connection_pool: Any = None) -> None:  # noqa: ARG002 -- redis-py's
        """Close all connections. Idempotent."""
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.wait([starting])
        if self._bus is not None:
            await self._bus.aclose()

    def _encode(self, args: tuple[Any, ...]) -> tuple[list[bytes], list[bytes]]:
        # redis-py writes commands of two words as one.
        encode = self.get_encoder().encode  # type: ignore[no-untyped-call] # its stub
        words = str(args[0] if not isinstance(args[0], bytes) else args[0].decode()).split()
        return [word.encode() for word in words], [encode(each) for each in args[1:]]

    def _parsed(self, name: str, reply: Reply, options: dict[str, Any]) -> Any:
        options.pop("keys", None)  # for redis-py's own cache
        parse = self.response_callbacks.get(name)
        return reply if parse is None else parse(reply, **options)


class _Pipeline(AsyncCoreCommands):
    """Commands that are sent together, each to its master."""

    _event_dispatcher: Any = None  # of redis-py's protocol; there are no events

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._commands: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    async def __aenter__(self) -> _Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._commands.clear()

    def execute_command(self, *args: Any, **options: Any) -> _Pipeline:
        """Add a command."""
        self._commands.append((args, options))
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands; return their results, errors among them unless they are raised."""
        commands, self._commands = self._commands, []
        results = await asyncio.gather(
            *[self._client.execute_command(*args, **options) for args, options in commands],
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException) and (
                raise_on_error or not isinstance(result, RedisError)
            ):
                raise result
        return list(results)


def _error_of(error: RedisUnavailable | ReplyError) -> RedisError:
    """Return redis-py's error for one of ours."""
    if isinstance(error, RedisUnavailable):
        return RedisConnectionError(str(error))
    found = BaseParser.parse_error(str(error))  # type: ignore[no-untyped-call] # its stub
    return found if isinstance(found, RedisError) else RedisConnectionError(error.code)
