"""
The real agents from npm, each installed once into a cache folder outside the repository.

`CAPIO_AGENTS` names another folder. Versions are pinned: what these clients put on the wire changes
from release to release.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
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
NODE = "node@24.21.0"
"""For clients that refuse older ones, when they are installed, too."""

long_form = pytest.mark.skipif(
    os.environ.get("CAPIO_AGENTS_LONG") != "1", reason="in the long form: CAPIO_AGENTS_LONG=1"
)
"""For tests whose clients take long to install or to run."""

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
    NODE: "node",
}
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

    Skips the test without npm or without an answer of its registry. When the registry answers, a
    package that cannot be installed is a failure.
    """
    folder = cache_folder() / package.replace("/", "-").lstrip("@")
    command = folder / "node_modules" / ".bin" / _COMMANDS[package]
    if command.exists():
        return command
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    if not registry_answers():
        pytest.skip("npm's registry does not answer")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    problem = _install(package, fresh, node)
    if problem:
        shutil.rmtree(fresh)
        pytest.fail(f"{package} cannot be installed: {problem}")
    try:
        fresh.rename(folder)
    except OSError:  # another run was faster
        shutil.rmtree(fresh)
    return command


@functools.cache
def registry_answers() -> bool:
    """Return whether npm's registry knows one of the packages; asked once a run."""
    arguments = ["view", *_QUIET, "--fetch-retries=0", OPENCODE, "version"]
    try:
        return _npm(arguments, Path.cwd(), 30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _install(package: str, folder: Path, node: Path | None) -> str:
    """Return the reason of a failure, or an empty text."""
    (folder / "package.json").write_text('{"name": "agents", "private": true}')
    try:
        done = _npm(["install", "--no-save", *_QUIET, package], folder, INSTALL_S, node)
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
