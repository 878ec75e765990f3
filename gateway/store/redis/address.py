"""
Redis addresses.

URLs have redis-py's syntax (`redis://`, `rediss://`, `unix://`, with user, password, database and
TLS options), or name Sentinels, see `sentinel`, or servers of a cluster, see `cluster`.
"""

from __future__ import annotations

import enum
import ssl
from typing import Any, TypedDict

import msgspec
from redis.asyncio.connection import RedisSSLContext, SSLConnection, parse_url

from gateway.settings import Secrets, Settings
from gateway.settings.embedded import redis_url
from gateway.settings.kept.urls import (
    ClusterUrl,
    SentinelUrl,
    split_cluster_url,
    split_sentinel_url,
)
from gateway.settings.urls import host_and_port
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


class Member(enum.Enum):
    """The role that a server of a cluster must have."""

    MASTER = "master"
    ANY = "any"


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
    seeds: tuple[tuple[str, int], ...] = ()
    """Servers of a cluster, which know the others; empty: not a cluster."""
    member: Member | None = None
    """Which one of its servers host and port name; None: any of the seeds."""

    @property
    def label(self) -> str:
        """Host and port, the socket's path, or Sentinels and service, for logs."""
        if self.sentinels is not None:
            return self.sentinels.label
        if self.seeds and self.member is None:
            return "cluster of " + ",".join(host_and_port(host, port) for host, port in self.seeds)
        return self.path or host_and_port(self.host, self.port)

    @property
    def may_be_cluster(self) -> bool:
        """Whether only the server itself can tell if it belongs to a cluster."""
        return not (self.path or self.sentinels or self.seeds or self.db)

    def as_cluster(self) -> RedisAddress:
        """Return the address of the cluster that the server at this address belongs to."""
        return msgspec.structs.replace(self, seeds=((self.host, self.port),))

    def node(self, host: str, port: int) -> RedisAddress:
        """Return the address of one master of this cluster."""
        return msgspec.structs.replace(self, host=host, port=port, member=Member.MASTER)

    def seed(self, host: str, port: int) -> RedisAddress:
        """Return the address of one server of this cluster, of any role."""
        return msgspec.structs.replace(self, host=host, port=port, member=Member.ANY)

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
            see `split_sentinel_url` and `split_cluster_url`; `valkey` may replace `redis`.
            `rediss` accepts the options of `TlsOptions` and verifies certificates by default.
        password: The one from the settings; overrides one in the URL.
        sentinel_password: For the Sentinels.
        client_name: See `RedisAddress`.

    Raises:
        ValueError: Not a supported URL, or an unknown option; the message does not repeat the
            URL, which may contain a password.
        OSError: A certificate file cannot be read.
    """
    url, sentinel, cluster = _plain_url(url)
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
        seeds=() if cluster is None else cluster.seeds,
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


def _plain_url(url: str) -> tuple[str, SentinelUrl | None, ClusterUrl | None]:
    """Return a URL that redis-py understands, and the Sentinels or the cluster that it names."""
    try:
        sentinel = split_sentinel_url(url)
        cluster = split_cluster_url(url)
    except ValueError as error:
        raise ValueError(f"redis.url: the URL {error}") from None
    if sentinel is not None:
        return sentinel.redis_url, sentinel, None
    if cluster is not None:
        return cluster.redis_url, None, cluster
    if url.startswith(("valkey://", "valkeys://")):
        return f"redis{url.removeprefix('valkey')}", None, None
    return url, None, None


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
