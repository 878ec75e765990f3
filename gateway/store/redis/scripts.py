"""Lua scripts that the Redis client runs by their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec


class LuaScript(msgspec.Struct, frozen=True):
    name: str
    source: bytes
    sha: bytes
    """Lower-case hex SHA-1 of the source, as EVALSHA wants it."""


def lua_script(name: str, source: bytes) -> LuaScript:
    sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
    return LuaScript(name, source, sha)


def read_script(folder: Path, name: str, *, after: str | None = None) -> LuaScript:
    """
    Return the script in `<folder>/<name>.lua`, with the text of `<after>.lua` before it.

    Reads files: call it at start-up only.
    """
    shared = b"" if after is None else (folder / f"{after}.lua").read_bytes()
    return lua_script(name, shared + (folder / f"{name}.lua").read_bytes())
