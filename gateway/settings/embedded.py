"""Paths and URL of the embedded Valkey, and whether a store is embedded."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from gateway.settings.schema import Settings

_LONGEST_SOCKET_PATH = 100  # the kernel allows 107 bytes on Linux and 103 on macOS


def valkey_home(data_dir: Path) -> Path:
    """Return the directory of the embedded server's files."""
    return data_dir.absolute() / "valkey"


def valkey_socket(data_dir: Path) -> Path:
    """
    Return the path of the server's Unix socket.

    It is in the system's temporary directory if the path in `data_dir` is too long.
    """
    home = valkey_home(data_dir)
    path = home / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"capio-{os.getuid()}-{name}" / "valkey.sock"


def is_redis_embedded(settings: Settings) -> bool:
    """Return whether the gateway runs its own Valkey server."""
    return settings.redis.url == "embedded"


def is_sql_embedded(settings: Settings) -> bool:
    """Return whether the gateway keeps its SQLite file in the data directory."""
    return settings.sql.url == "embedded"


def redis_url(settings: Settings) -> str:
    """Return the URL of the Redis to use, the embedded server's if `redis.url` is "embedded"."""
    if is_redis_embedded(settings):
        return f"unix://{valkey_socket(Path(settings.server.data_dir))}"
    return settings.redis.url
