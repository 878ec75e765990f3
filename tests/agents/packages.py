"""
The real agents from npm, each installed once into a cache folder outside the repository.

`CAPIO_AGENTS` names another folder. Versions are pinned: what these clients put on the wire changes
from release to release.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CLAUDE_CODE = "@anthropic-ai/claude-code@2.1.330"
OPENCODE = "opencode-ai@1.18.33"
CODEX = "@openai/codex@0.169.0"

INSTALL_S = 240
_COMMANDS = {CLAUDE_CODE: "claude", OPENCODE: "opencode", CODEX: "codex"}
_QUIET = ("--no-audit", "--no-fund", "--loglevel=error")


def cache_folder() -> Path:
    """Return where packages are kept between runs."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CAPIO_AGENTS") or Path(caches) / "capio-agents")


def command_of(package: str) -> Path:
    """
    Return the command of a package, installed if it is not there yet.

    Skips the test without npm or without an answer of its registry. When the registry answers, a
    package that cannot be installed is a failure.
    """
    folder = cache_folder() / package.replace("/", "-").lstrip("@")
    command = folder / "node_modules" / ".bin" / _COMMANDS[package]
    if command.exists():
        return command
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    problem = _install(package, fresh)
    if problem:
        shutil.rmtree(fresh)
        if not _registry_answers(package):
            pytest.skip(f"npm's registry does not answer: {problem}")
        pytest.fail(f"{package} cannot be installed: {problem}")
    try:
        fresh.rename(folder)
    except OSError:  # another run was faster
        shutil.rmtree(fresh)
    return command


def _install(package: str, folder: Path) -> str:
    """Return why it failed, or nothing."""
    (folder / "package.json").write_text('{"name": "agents", "private": true}')
    try:
        done = _npm(["install", "--no-save", *_QUIET, package], folder, INSTALL_S)
    except subprocess.TimeoutExpired:
        return f"npm install took more than {INSTALL_S} s"
    return "" if done.returncode == 0 else done.stderr[-1000:]


def _registry_answers(package: str) -> bool:
    try:
        return _npm(["view", *_QUIET, package, "version"], Path.cwd(), 30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _npm(arguments: list[str], folder: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["npm", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
