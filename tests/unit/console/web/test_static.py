"""Static files: hashed names, compression, and vendored files as published."""

from __future__ import annotations

import gzip
import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from gateway.console.web.static import StaticFiles

FOLDER = Path(__file__).resolve().parents[4] / "gateway" / "console" / "static"


def test_styles_are_joined_in_order_and_name_hashed_files(tmp_path: Path) -> None:
    """The URL changes with the content, and the style sheet refers to it."""
    (tmp_path / "css").mkdir()
    (tmp_path / "vendor").mkdir()
    (tmp_path / "css/02.css").write_text('b { src: url("vendor/f.woff2") }')
    (tmp_path / "css/01.css").write_text("a {}\n")
    (tmp_path / "vendor/f.woff2").write_bytes(b"font")
    digest = hashlib.sha256(b"font").hexdigest()[:12]

    files = StaticFiles(tmp_path)

    styles = files.find(files.url("console.css"))
    assert styles is not None
    assert styles.content.decode() == f'a{{}}b{{src:url("/static/vendor/f.{digest}.woff2")}}'
    assert styles.compressed is not None
    assert gzip.decompress(styles.compressed) == styles.content
    font = files.find(f"/static/vendor/f.{digest}.woff2")
    assert font is not None
    assert (font.content, font.compressed, font.media_type) == (b"font", None, "font/woff2")


def test_names_without_hash_or_file_are_unknown() -> None:
    """A file is found at its hashed URL only."""
    files = StaticFiles(FOLDER)

    assert files.find("/static/js/console.js") is None
    assert files.find("/static/../process.py") is None
    with pytest.raises(KeyError):
        files.url("missing.css")


def test_vendored_files_are_those_that_their_packages_published() -> None:
    """Each file of others has its package, version, licence and digest in `VENDOR.toml`."""
    listed = tomllib.loads((FOLDER / "vendor/VENDOR.toml").read_text("utf-8"))["files"]

    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (FOLDER / "vendor").iterdir()
        if path.suffix != ".toml"
    }
    assert found == {each["file"]: each["sha256"] for each in listed}
    assert all(each["version"] and each["license"] and each["package"] for each in listed)


def test_own_style_and_script_stay_small() -> None:
    """Style at most 8 KB, the script of every page at most 4 KB, both compressed."""
    files = StaticFiles(FOLDER)

    for name, most in (("console.css", 8192), ("js/console.js", 4096)):
        found = files.find(files.url(name))
        assert found is not None
        assert found.compressed is not None
        assert len(found.compressed) <= most, (name, len(found.compressed))


def test_scripts_are_sent_without_lines_of_comments() -> None:
    """Every other line is sent as it is written."""
    files = StaticFiles(FOLDER)
    for path in sorted(FOLDER.glob("js/*.js")):
        sent = files.find(files.url(f"js/{path.name}"))
        assert sent is not None
        lines = path.read_text("utf-8").split("\n")
        kept = [line for line in lines if not line.lstrip().startswith("//")]
        assert sent.content.decode() == "\n".join(kept)


def test_styles_are_sent_without_space_and_comments() -> None:
    """On few lines, and no rule is lost."""
    files = StaticFiles(FOLDER)
    sent = files.find(files.url("console.css"))
    source = "".join(path.read_text("utf-8") for path in sorted(FOLDER.glob("css/*.css")))

    assert sent is not None
    assert not re.search(r"/\*|[{};]\s", sent.content.decode())
    assert sent.content.count(b"{") == source.count("{")
