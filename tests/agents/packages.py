"""
Real clients from npm and PyPI, each installed once into a cache folder outside the repository.

`CAPIO_AGENTS` names another folder. Versions are pinned: what these clients put on the wire changes
from release to release.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

CLAUDE_CODE = "@anthropic-ai/claude-code@2.1.330"
OPENCODE = "opencode-ai@1.18.33"
CODEX = "@openai/codex@0.171.0"
OPENCLAW = "openclaw@2026.9.6"
QWEN_CODE = "@qwen-code/qwen-code@0.24.4"
COPILOT = "@github/copilot@1.0.102"
PI = "@mariozechner/pi-coding-agent@0.73.1"
CLINE = "cline@3.0.65"
CONTINUE = "@continuedev/cli@1.5.47"
KILO = "@kilocode/cli@7.7.7"
NODE = "node@24.21.0"
"""For clients that refuse older ones, when they are installed, too."""

long_form = pytest.mark.skipif(
    os.environ.get("CAPIO_AGENTS_LONG") != "1", reason="in the long form: CAPIO_AGENTS_LONG=1"
)
"""For tests whose clients take long to install or to run."""

AI_SDK = ("ai@7.0.173", "@ai-sdk/openai@4.0.118", "zod@4.1.12")
AGENT_FRAMEWORK = "agent-framework-openai==1.17.0"
SEMANTIC_KERNEL = "semantic-kernel==1.45.0"

INSTALL_S = 240
_COMMANDS = {
    CLAUDE_CODE: "claude",
    OPENCODE: "opencode",
    CODEX: "codex",
    OPENCLAW: "openclaw",
    QWEN_CODE: "qwen",
    COPILOT: "copilot",
    PI: "pi",
    CLINE: "cline",
    CONTINUE: "cn",
    KILO: "kilo",
    NODE: "node",
}
_NO_INDEX = ("Failed to establish a new connection", "NewConnectionError", "Connection refused")
_QUIET = ("--no-audit", "--no-fund", "--loglevel=error")


def cache_folder() -> Path:
    """Return where packages are kept between runs."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CAPIO_AGENTS") or Path(caches) / "capio-agents")


def command_of(package: str, node: Path | None = None) -> Path:
    """
    Return the command of a package, installed if it is not there yet.

    Args:
        package: Name and version.
        node: The Node to install it with; None takes the system's.

    Skips the test without npm or without a response of its registry. When the registry responds, a
    package that cannot be installed is a failure.
    """
    folder = cache_folder() / package.replace("/", "-").lstrip("@")
    command = folder / "node_modules" / ".bin" / _COMMANDS[package]
    if not command.exists():
        _check_npm()
        _install_once(package, folder, lambda fresh: _install([package], fresh, node))
    return command


def modules_of(packages: tuple[str, ...], node: Path) -> Path:
    """Return the folder `node_modules` with some packages; skips and fails as `command_of`."""
    folder = cache_folder() / packages[0]
    if not folder.exists():
        _check_npm()
        _install_once(packages[0], folder, lambda fresh: _install([*packages], fresh, node))
    return folder / "node_modules"


def python_with(requirement: str) -> Path:
    """
    Return the Python of a virtual environment that has a package and what it needs.

    Skips the test without a response of the index; what cannot be installed then is a failure.
    """
    folder = cache_folder() / requirement
    if not folder.exists():
        _install_once(requirement, folder, lambda fresh: _install_python(requirement, fresh))
    return folder / "bin" / "python"


def _check_npm() -> None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    if not registry_answers():
        pytest.skip("npm's registry does not respond")


def _install_once(name: str, folder: Path, install: Callable[[Path], str]) -> None:
    """Install into a new folder, which takes its name when it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    problem = install(fresh)
    if problem:
        shutil.rmtree(fresh)
        pytest.fail(f"{name} cannot be installed: {problem}")
    try:
        fresh.rename(folder)
    except OSError:  # another run was faster
        shutil.rmtree(fresh)


@functools.cache
def registry_answers() -> bool:
    """Return whether npm's registry knows one of the packages; asked once a run."""
    arguments = ["view", *_QUIET, "--fetch-retries=0", OPENCODE, "version"]
    try:
        return _npm(arguments, Path.cwd(), 30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _install_python(requirement: str, folder: Path) -> str:
    """Return the reason of a failure, or an empty text."""
    python = str(folder / "bin" / "python")
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], timeout=INSTALL_S, check=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", requirement],
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"pip install took more than {INSTALL_S} s"
    if any(sign in done.stderr for sign in _NO_INDEX):
        shutil.rmtree(folder)
        pytest.skip("the package index does not respond")
    return "" if done.returncode == 0 else done.stderr[-1000:]


def _install(packages: list[str], folder: Path, node: Path | None) -> str:
    """Return the reason of a failure, or an empty text."""
    (folder / "package.json").write_text('{"name": "agents", "private": true}')
    try:
        done = _npm(["install", "--no-save", *_QUIET, *packages], folder, INSTALL_S, node)
    except subprocess.TimeoutExpired:
        return f"npm install took more than {INSTALL_S} s"
    return "" if done.returncode == 0 else done.stderr[-1000:]


def path_with(node: Path | None) -> str:
    """Return a PATH on which this Node comes first."""
    return os.pathsep.join([*([str(node.parent)] if node else []), os.environ["PATH"]])


def _npm(
    arguments: list[str], folder: Path, timeout_s: float, node: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["npm", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path_with(node)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
