"""Tells every running gateway what has changed, so that none goes on with the old."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotConnectedError
from redis.exceptions import RedisError

from gateway.settings import Secrets, Settings
from gateway.settings.embedded import redis_url
from gateway.store.keys.cache import publish_change
from gateway.store.keys.repository import KeyChange
from gateway.store.redis.address import cold_client, read_target


class PublishError(Exception):
    """Redis did not take the change; the message says why."""


async def publish(settings: Settings, secrets: Secrets, change: KeyChange) -> bool:
    """
    Tell the gateways that share this configuration's Redis of a key's change.

    Returns:
        False when Redis is embedded and its gateway does not run, so that there is none to tell.

    Raises:
        PublishError: Redis cannot be reached, or refuses.
    """

    async def work(client: Redis) -> None:
        await publish_change(client, settings.redis.key_prefix, change, settings=settings.keys)

    return await tell(settings, secrets, work)


async def tell(
    settings: Settings, secrets: Secrets, work: Callable[[Redis], Awaitable[None]]
) -> bool:
    """Run `work` on this configuration's Redis; returns and raises as `publish`."""
    try:
        url = redis_url(settings)
        target = read_target(url, password=secrets.redis_password, client_name="capio-cli")
        client = cold_client(target)
    except (OSError, ValueError) as failure:  # certificate files; options of the URL
        raise PublishError(str(failure)) from failure
    client.set_retry(Retry(NoBackoff(), 0))  # who runs the command can repeat it
    try:
        await client.ping()
        await work(client)
    except RedisError as failure:
        if isinstance(failure, NotConnectedError) and settings.redis.url == "embedded":
            return False
        raise PublishError(str(failure)) from failure
    finally:
        await client.aclose()
    return True
