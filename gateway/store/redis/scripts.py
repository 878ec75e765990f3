"""Lua scripts as values that the Redis client runs by their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec


class LuaScript(msgspec.Struct, frozen=True):
    """A script and the name that Redis gives it."""

    name: str
    source: bytes
    sha: bytes
    """Lower-case hex SHA-1 of the source, as EVALSHA wants it."""


def lua_script(name: str, source: bytes) -> LuaScript:
    """Return `source` as a script."""
    sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
    return LuaScript(name, source, sha)


def read_script(folder: Path, name: str, *, after: str | None = None) -> LuaScript:
    """
    Return the script in `<folder>/<name>.lua`, behind the text of another file that `after` names.

    Reads files: for building, not for calls.
    """
    shared = b"" if after is None else (folder / f"{after}.lua").read_bytes()
    return lua_script(name, shared + (folder / f"{name}.lua").read_bytes())
