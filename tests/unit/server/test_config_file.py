"""When a configuration file counts as changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.server.config_file import ConfigFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "capio.toml"
    path.write_text("one")
    return path


def changes(file: ConfigFile, looks: int = 4) -> list[bool]:
    """Look several times."""
    return [file.has_changed() for _ in range(looks)]


def test_new_content_counts_once_and_only_when_it_stands_still(path: Path) -> None:
    """A file that changes between two looks may be half written."""
    file = ConfigFile(path)
    assert changes(file) == [False] * 4

    path.write_text("two, in part")
    first = file.has_changed()
    path.write_text("two, the whole of it")

    assert not first
    assert changes(file) == [False, True, False, False]


def test_same_content_written_again_does_not_count(path: Path) -> None:
    """Deployment tools rewrite files that have not changed."""
    file = ConfigFile(path)
    replacement = path.with_suffix(".new")
    replacement.write_text("one")
    replacement.replace(path)

    assert changes(file) == [False] * 4


def test_content_that_was_read_meanwhile_does_not_count(path: Path) -> None:
    """A reload by signal has read it."""
    file = ConfigFile(path)
    path.write_text("two")
    file.note_read()

    assert changes(file) == [False] * 4


def test_rejected_content_counts_again_once_it_is_corrected(path: Path) -> None:
    """Also when the correction is the old content."""
    file = ConfigFile(path)
    path.write_text("wrong")
    assert changes(file) == [False, True, False, False]
    file.note_read()

    path.write_text("one")

    assert changes(file) == [False, True, False, False]


def test_missing_file_has_not_changed(path: Path) -> None:
    """An editor that replaces it removes it for a moment."""
    file = ConfigFile(path)
    path.unlink()
    assert changes(file) == [False] * 4

    path.write_text("two")

    assert changes(file) == [False, True, False, False]


def test_config_map_that_kubernetes_swaps_counts(tmp_path: Path) -> None:
    """The file is a link into `..data`, which is a link to a directory with the date."""
    for name, text in (("..2026_01", "one"), ("..2026_02", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "capio.toml").write_text(text)
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "capio.toml").symlink_to("..data/capio.toml")
    file = ConfigFile(tmp_path / "capio.toml")

    (tmp_path / "..data_tmp").symlink_to("..2026_02")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    assert changes(file) == [False, True, False, False]
