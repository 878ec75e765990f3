"""Paths and URL of the embedded Valkey, whether a store is embedded, and the data directory."""

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


def can_be_written(data_dir: Path) -> bool:
    """Return whether the directory can be written or, if there is none, be made."""
    directory = data_dir.absolute()
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
