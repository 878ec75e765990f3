"""
Polls the configuration file for changes.

Polling, twice a second, works on every file system, and with the symbolic links that Kubernetes
switches to another file when a ConfigMap changes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_Signature = tuple[int, int, int, int]


class ConfigFile:
    """
    Compares a configuration file with the content that was last read.

    Args:
        path: The file; it has just been read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: bytes | None = None
        self._looked_at: _Signature | None = None
        self._settled: _Signature | None = None
        self.note_read()

    def note_read(self) -> None:
        """Record that the current content is about to be read, valid or not."""
        self._settled = self._looked_at = _signature(self._path)
        self._read = _digest(self._path)

    def has_changed(self) -> bool:
        """
        Return whether the file has other content than was last read.

        A changed file may still be incomplete, so it counts once two polls see the same content. A
        missing file has not changed.
        """
        signature = _signature(self._path)
        if signature is None or signature == self._settled:
            return False
        if signature != self._looked_at:
            self._looked_at = signature
            return False
        self._settled = signature
        digest = _digest(self._path)
        return digest is not None and digest != self._read


def _signature(path: Path) -> _Signature | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
