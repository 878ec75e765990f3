"""Parses and validates the URLs of Redis and SQL."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.settings.urls import split_url

REDIS_SCHEMES = (
    *("redis", "rediss", "valkey", "valkeys", "unix", "redis+sentinel", "redis+cluster"),
)
_SENTINEL = re.compile(r"(?:redis|valkey)(s?)\+sentinel://(.*)\Z", re.DOTALL)
_CLUSTER = re.compile(r"(?:redis|valkey)(s?)\+cluster://(.*)\Z", re.DOTALL)
_CLUSTER_FORM = "redis+cluster://host1:6379,host2:6379"
_REDIS_PORT = 6379
_MOST_SEEDS = 20
_SENTINEL_FORM = "redis+sentinel://host1:26379,host2:26379/service"
_SENTINEL_PORT = 26379
_MOST_SENTINELS = 20
_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")


class SentinelUrl(NamedTuple):
    """A `redis+sentinel://` URL."""

    sentinels: tuple[tuple[str, int], ...]
    """Host and port of each Sentinel."""
    service: str
    """The name under which the Sentinels monitor the primary."""
    redis_url: str
    """User, database and options of the primary, as a `redis://` or `rediss://` URL whose host is
    the service name."""


def split_sentinel_url(url: str) -> SentinelUrl | None:
    """
    Return the parts of `redis+sentinel://[user@]host[:port],.../service[/db][?options]`.

    None for a URL of another scheme; `rediss+sentinel`, `valkey+sentinel` and `valkeys+sentinel`
    are accepted too.

    Raises:
        ValueError: It has such a scheme and is malformed. The message continues a sentence that
            starts with the URL.
    """
    match = _SENTINEL.match(url)
    if match is None:
        return None
    tls, rest = match.groups()
    authority, slash, path = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    path, mark, query = path.partition("?")
    service, _, database = path.partition("/")
    if not slash or not _SERVICE.match(service):
        raise ValueError(f"has no service name; use {_SENTINEL_FORM}")
    if database and not database.isdigit():
        raise ValueError("has a database that is not a number")
    sentinels = tuple(_sentinel(host) for host in hosts.split(","))
    if len(sentinels) > _MOST_SENTINELS:
        raise ValueError(f"has more than {_MOST_SENTINELS} Sentinels")
    redis_url = f"redis{tls}://{user}{at}{service}/{database}{mark}{query}"
    split_url(redis_url)
    return SentinelUrl(sentinels, service, redis_url)


def _sentinel(host: str) -> tuple[str, int]:
    parts = split_url(f"redis://{host}")
    if not parts.hostname or parts.path:
        raise ValueError("has a Sentinel without a host name")
    return parts.hostname, parts.port or _SENTINEL_PORT


class ClusterUrl(NamedTuple):
    """A `redis+cluster://` URL."""

    seeds: tuple[tuple[str, int], ...]
    """Host and port of some of its servers."""
    redis_url: str
    """The same for the first of them, as a `redis://` or `rediss://` URL."""


def split_cluster_url(url: str) -> ClusterUrl | None:
    """
    Return the parts of `redis+cluster://[user@]host[:port],...[/0][?options]`.

    None for a URL of another scheme; `rediss+cluster`, `valkey+cluster` and `valkeys+cluster` are
    accepted too.

    Raises:
        ValueError: It has such a scheme and is malformed. The message continues a sentence that
            starts with the URL.
    """
    match = _CLUSTER.match(url)
    if match is None:
        return None
    tls, rest = match.groups()
    before, mark, query = rest.partition("?")
    authority, _, path = before.partition("/")
    user, at, hosts = authority.rpartition("@")
    if path not in ("", "0"):
        raise ValueError("names a database; a cluster has only database 0")
    seeds: list[tuple[str, int]] = []
    for host in hosts.split(","):
        parts = split_url(f"redis://{host}")
        if not parts.hostname or parts.path:
            raise ValueError(f"has a server without a host name; use {_CLUSTER_FORM}")
        seeds.append((parts.hostname, parts.port or _REDIS_PORT))
    if len(seeds) > _MOST_SEEDS:
        raise ValueError(
            f"has more than {_MOST_SEEDS} servers; any few of the cluster's are enough"
        )
    redis_url = f"redis{tls}://{user}{at}{hosts.split(',')[0]}/0{mark}{query}"
    split_url(redis_url)
    return ClusterUrl(tuple(seeds), redis_url)


def check_store_url(url: str, schemes: tuple[str, ...]) -> None:
    """
    Accept `embedded`, and URLs of these schemes without a password.

    Raises:
        ValueError: Anything else. The message continues a sentence that starts with the URL.
    """
    if url == "embedded":
        return
    if schemes == REDIS_SCHEMES:
        named = split_sentinel_url(url) or split_cluster_url(url)
        if named is not None:
            url = named.redis_url
        elif "," in urlsplit(url).netloc:
            raise ValueError(f"names several hosts; use {_SENTINEL_FORM} or {_CLUSTER_FORM}")
    parts = split_url(url)
    if parts.scheme not in schemes or not (parts.netloc or parts.path):
        allowed = ", ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f'is neither "embedded" nor one of {allowed}')
    if parts.password is not None or "password=" in parts.query.lower():
        raise ValueError("contains a password; use password_env or password_file")
