"""
Static files, read once and kept in memory, compressed.

The URL of a file contains a hash of its content, so that browsers may cache it forever.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import msgspec

PREFIX = "/static/"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}
_COMPRESSED = frozenset({".css", ".js", ".svg", ".txt"})
_REFERENCE = re.compile(r'url\("([^"/:]+(?:/[^":]+)?)"\)')
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_SPACE = re.compile(r"\s*([{};])\s*")  # a tenth of the compressed size
_HASH_LENGTH = 12
_NOTE = re.compile(rb"^[ \t]*//.*\n", re.MULTILINE)
STYLES = "console.css"


class StaticFile(msgspec.Struct, frozen=True):
    """One file. `compressed` is None if compression does not make it smaller."""

    content: bytes
    compressed: bytes | None
    media_type: str


class StaticFiles:
    """
    All files below a folder, by URL.

    The files in `css/` are joined in the order of their names into `console.css`, in which
    `url("vendor/x.woff2")` names another static file.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, StaticFile] = {}
        self._urls: dict[str, str] = {}
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.suffix in _TYPES and not name.startswith("css/"):
                content = path.read_bytes()
                self._add(name, _NOTE.sub(b"", content) if name.startswith("js/") else content)
        styles = "".join(path.read_text("utf-8") for path in sorted(folder.glob("css/*.css")))
        styles = _SPACE.sub(r"\1", _COMMENT.sub("", styles)).replace(": ", ":")
        referred = _REFERENCE.sub(lambda match: f'url("{self.url(match[1])}")', styles)
        self._add(STYLES, referred.encode())

    def url(self, name: str) -> str:
        """Return the path at which a file is served; KeyError if there is none of this name."""
        return self._urls[name]

    def find(self, path: str) -> StaticFile | None:
        """Return the file at a path."""
        return self._files.get(path)

    def _add(self, name: str, content: bytes) -> None:
        stem, _, suffix = name.rpartition(".")
        digest = hashlib.sha256(content).hexdigest()[:_HASH_LENGTH]
        url = f"{PREFIX}{stem}.{digest}.{suffix}"
        packed = None
        if f".{suffix}" in _COMPRESSED:
            packed = gzip.compress(content, 9, mtime=0)
        self._urls[name] = url
        self._files[url] = StaticFile(content, packed, _TYPES[f".{suffix}"])
