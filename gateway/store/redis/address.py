"""
Redis addresses, and redis-py clients for use outside the hot path.

URLs have redis-py's syntax (`redis://`, `rediss://`, `unix://`, with user, password, database and
TLS options), or name Sentinels, see `sentinel`. The hot path does not use redis-py, see `client`
and `connection`.
"""

from __future__ import annotations

import ssl
from typing import Any, TypedDict

import msgspec
import redis.asyncio
from redis.asyncio.connection import RedisSSLContext, SSLConnection, parse_url
from redis.asyncio.sentinel import SentinelConnectionPool

from gateway.settings import Secrets, Settings
from gateway.settings.embedded import redis_url
from gateway.settings.urls import SentinelUrl, split_sentinel_url
from gateway.store.redis.sentinel import SentinelGroup

DEFAULT_PORT = 6379


class TlsOptions(TypedDict, total=False):
    """The TLS options a `rediss://` URL may carry, by redis-py's names."""

    ssl_keyfile: str
    ssl_certfile: str
    ssl_password: str
    ssl_ca_certs: str
    ssl_ca_path: str
    ssl_cert_reqs: str
    ssl_check_hostname: bool


class _UrlParts(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The parts of a URL besides its scheme and TLS options."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None
    username: str | None = None
    password: str | None = None
    db: int = 0
    sentinel_username: str | None = None


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Address, credential and TLS settings of a Redis server. Its `repr` shows no credential."""

    host: str
    port: int
    path: str | None
    """A Unix socket, used instead of host and port."""
    username: str | None
    password: str | None
    db: int
    client_name: str
    """Shown by CLIENT LIST; no spaces."""
    tls: ssl.SSLContext | None = None
    tls_options: TlsOptions = {}
    """The options of `tls`, for redis-py, which creates its own context."""
    connect_timeout_s: float = 2.0
    """For name resolution, TCP, TLS and login together."""
    sentinels: SentinelGroup | None = None
    """They know host and port, which are not those of this target."""

    @property
    def label(self) -> str:
        """Host and port, the socket's path, or Sentinels and service, for logs."""
        if self.sentinels is not None:
            return self.sentinels.label
        return self.path or f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"RedisAddress({self.label}, db={self.db}, tls={self.tls is not None})"


def redis_address(settings: Settings, secrets: Secrets, client_name: str) -> RedisAddress:
    """Return the configured Redis; raises as `parse_address`."""
    return parse_address(
        redis_url(settings),
        password=secrets.redis_password,
        sentinel_password=secrets.redis_sentinel_password,
        client_name=client_name,
    )


def parse_address(
    url: str,
    *,
    password: str | None = None,
    sentinel_password: str | None = None,
    client_name: str = "capio",
) -> RedisAddress:
    """
    Parse a URL. Reads certificate files if it asks for TLS.

    Args:
        url: `redis://[user[:password]@]host[:port][/db]`, `rediss://...`, `unix://path[?db=n]`, or
            see `split_sentinel_url`; `valkey` may replace `redis`. `rediss` accepts the options of
            `TlsOptions` and verifies certificates by default.
        password: The one from the settings; overrides one in the URL.
        sentinel_password: For the Sentinels.
        client_name: See `RedisAddress`.

    Raises:
        ValueError: Not a supported URL, or an unknown option; the message does not repeat the
            URL, which may contain a password.
        OSError: A certificate file cannot be read.
    """
    url, sentinel = _plain_url(url)
    options: dict[str, Any] = dict(parse_url(url))
    secure = options.pop("connection_class", None) is SSLConnection
    tls_options = TlsOptions()
    if secure:
        named = {name: options.pop(name) for name in TlsOptions.__annotations__ if name in options}
        tls_options = msgspec.convert(named, TlsOptions)
    try:
        address = msgspec.convert(options, _UrlParts)
    except msgspec.ValidationError as error:
        raise ValueError(f"redis.url: {error}") from None
    if address.sentinel_username is not None and sentinel is None:
        raise ValueError("redis.url: sentinel_username applies to redis+sentinel:// only")
    return RedisAddress(
        host=address.host,
        port=address.port,
        path=address.path,
        username=address.username,
        password=address.password if password is None else password,
        db=address.db,
        client_name=client_name,
        tls=_tls_context(tls_options) if secure else None,
        tls_options=tls_options,
        sentinels=None
        if sentinel is None
        else SentinelGroup(
            sentinels=sentinel.sentinels,
            service=sentinel.service,
            username=address.sentinel_username,
            password=sentinel_password,
            options={"ssl": True, **tls_options} if secure else {},
        ),
    )


def cold_client(target: RedisAddress, *, timeout_s: float = 5.0) -> redis.asyncio.Redis:
    """
    Return a redis-py client for use outside the hot path; which must be closed with `aclose`.

    It connects on first use. Replies are bytes. A command costs about 100 us of CPU.
    """
    options: dict[str, Any] = {
        "username": target.username,
        "password": target.password,
        "db": target.db,
        "client_name": target.client_name,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": target.connect_timeout_s,
        "ssl": target.tls is not None,
        **target.tls_options,
    }
    if target.sentinels is not None:
        group = target.sentinels
        pool = SentinelConnectionPool(group.service, group, **options)  # type: ignore[no-untyped-call] # its stub
        return redis.asyncio.Redis.from_pool(pool)
    return redis.asyncio.Redis(
        host=target.host, port=target.port, unix_socket_path=target.path, **options
    )


def _plain_url(url: str) -> tuple[str, SentinelUrl | None]:
    """Return a URL that redis-py understands, and the Sentinels if it names them."""
    try:
        sentinel = split_sentinel_url(url)
    except ValueError as error:
        raise ValueError(f"redis.url: the URL {error}") from None
    if sentinel is not None:
        return sentinel.redis_url, sentinel
    if url.startswith(("valkey://", "valkeys://")):
        return f"redis{url.removeprefix('valkey')}", None
    return url, None


def _tls_context(options: TlsOptions) -> ssl.SSLContext:
    context: ssl.SSLContext = RedisSSLContext(
        keyfile=options.get("ssl_keyfile"),
        certfile=options.get("ssl_certfile"),
        password=options.get("ssl_password"),
        ca_certs=options.get("ssl_ca_certs"),
        ca_path=options.get("ssl_ca_path"),
        cert_reqs=options.get("ssl_cert_reqs", "required"),
        check_hostname=options.get("ssl_check_hostname", True),
    ).get()
    return context
