"""Telling the compiled build from the pure one."""

from __future__ import annotations

import tomllib
from pathlib import Path

from gateway.build_kind import MODULE_THAT_DECIDES, build_kind

ROOT = Path(__file__).resolve().parents[2]


def test_library_is_told_from_source() -> None:
    """The core of msgspec is a shared library, its package a source file."""
    assert build_kind("msgspec._core") == "compiled"
    assert build_kind("msgspec") == "pure Python"


def test_module_that_decides_is_one_that_is_compiled() -> None:
    """Without an argument it looks at a module that a compiled build has as a library."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    package, _, module = MODULE_THAT_DECIDES.rpartition(".")

    assert module in project["tool"]["capio"]["compiled"][package]
