"""The real coding agents, run as their users run them, on a machine that reaches nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.agents import packages

RUN_S = 120.0
NOTES_SERVER = str(Path(__file__).with_name("notes_server.py"))
_CLOSED = "http://127.0.0.1:9"


class AgentRun:
    """How a run of an agent ended."""

    def __init__(self, exit_code: int, stdout: str, stderr: str, seconds: float) -> None:
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        self.seconds = seconds

    def __repr__(self) -> str:
        said = f"{self.stdout[-3000:]}\n{self.stderr[-3000:]}"
        return f"<exit code {self.exit_code} after {self.seconds:.1f} s: {said}>"


class Agent:
    """
    A home directory and a working directory for one agent.

    Args:
        home: A directory of the test's own.
        base_url: The gateway, without a path.
        key: Its key.
    """

    def __init__(self, home: Path, base_url: str, key: str) -> None:
        self.home = home
        self.work = home / "work"
        self.base_url = base_url
        self.key = key
        self.work.mkdir(parents=True)

    def claude_code(self, model: str, prompt: str, *flags: str) -> AgentRun:
        """Run Claude Code in print mode; its response is one JSON object."""
        command = packages.command_of(packages.CLAUDE_CODE)
        return self._run(
            [str(command), "-p", prompt, "--output-format", "json", *flags],
            ANTHROPIC_BASE_URL=self.base_url,
            ANTHROPIC_AUTH_TOKEN=self.key,
            ANTHROPIC_API_KEY="",
            ANTHROPIC_MODEL=f"capio/{model}",
            ANTHROPIC_DEFAULT_OPUS_MODEL=f"capio/{model}",
            ANTHROPIC_DEFAULT_SONNET_MODEL=f"capio/{model}",
            ANTHROPIC_DEFAULT_HAIKU_MODEL=f"capio/{model}",
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
            DISABLE_TELEMETRY="1",
            DISABLE_AUTOUPDATER="1",
            DISABLE_ERROR_REPORTING="1",
        )

    def opencode(self, model: str, prompt: str, *, package: str) -> AgentRun:
        """
        Run OpenCode once.

        Args:
            package: The npm package of its provider: `@ai-sdk/openai-compatible` or
                `@ai-sdk/anthropic`.
        """
        command = packages.command_of(packages.OPENCODE)
        options = {"baseURL": f"{self.base_url}/v1", "apiKey": "{env:CAPIO_API_KEY}"}
        provider = {"npm": package, "name": "Capio", "options": options, "models": {model: {}}}
        config = {
            "$schema": "https://opencode.ai/config.json",
            "provider": {"capio": provider},
            "autoupdate": False,
            "share": "disabled",
        }
        (self.work / "opencode.json").write_text(json.dumps(config))
        return self._run(
            [str(command), "run", "--model", f"capio/{model}", prompt],
            CAPIO_API_KEY=self.key,
            OPENCODE_DISABLE_MODELS_FETCH="1",
            OPENCODE_DISABLE_AUTOUPDATE="1",
            OPENCODE_DISABLE_LSP_DOWNLOAD="1",
            OPENCODE_DISABLE_DEFAULT_PLUGINS="1",
        )

    def codex(
        self, model: str, prompt: str, *flags: str, own_provider: bool = True, resume: bool = False
    ) -> AgentRun:
        """
        Run Codex without its sandbox, which works in the test's own directory, with an MCP server.

        Args:
            own_provider: The gateway is a provider of its own; else the built-in one has its URL.
            resume: Continue the session of the run before.
        """
        command = packages.command_of(packages.CODEX)
        folder = self.home / ".codex"
        folder.mkdir(exist_ok=True)
        base_url = json.dumps(f"{self.base_url}/v1")
        provider = (
            'model_provider = "capio"\n[model_providers.capio]\nname = "Capio"\n'
            f'base_url = {base_url}\nenv_key = "CAPIO_API_KEY"\nwire_api = "responses"\n'
        )
        (folder / "config.toml").write_text(
            f'model = "{model}"\ncheck_for_update_on_startup = false\n'
            + (provider if own_provider else f"openai_base_url = {base_url}\n")
            + f"[analytics]\nenabled = false\n[mcp_servers.notes]\n"
            f"command = {json.dumps(sys.executable)}\nargs = [{json.dumps(NOTES_SERVER)}]\n"
        )
        return self._run(
            [
                *(str(command), "exec", *(("resume", "--last") if resume else ()), *flags),
                *("--skip-git-repo-check", "--json"),
                *("--dangerously-bypass-approvals-and-sandbox", prompt),
            ],
            CODEX_HOME=str(folder),
            **{"CAPIO_API_KEY" if own_provider else "CODEX_API_KEY": self.key},
        )

    def openclaw(self, model: str, prompt: str, *, api: str) -> AgentRun:
        """
        Run one turn of OpenClaw's main agent.

        Args:
            api: `openai-completions` or `anthropic-messages`.
        """
        folder = self.home / ".openclaw"
        folder.mkdir()
        sizes = {"contextWindow": 1_000_000, "maxTokens": 32_000}
        provider = {
            "baseUrl": self.base_url + ("/v1" if api == "openai-completions" else ""),
            "apiKey": "${CAPIO_API_KEY}",
            "api": api,
            "models": [{"id": model, "name": model, "input": ["text", "image"], **sizes}],
        }
        catalogue = {
            "mode": "merge",
            "catalogRefresh": {"enabled": False},
            "providers": {"capio": provider},
        }
        defaults = {"workspace": str(self.work), "model": {"primary": f"capio/{model}"}}
        config = {
            "env": {"vars": {"CAPIO_API_KEY": self.key}},
            "models": catalogue,
            "agents": {"defaults": defaults},
        }
        (folder / "openclaw.json").write_text(json.dumps(config))
        return self.node_client(
            packages.OPENCLAW,
            *("agent", "--local", "--agent", "main"),
            *("--message", prompt, "--json"),
        )

    def program(self, command: Path, text: str, name: str, **variables: str) -> AgentRun:
        """
        Run a program that uses a client's library.

        Args:
            command: What runs it.
            text: Its source.
            name: Of its file.
            variables: Added to its environment, beside the gateway's address and the key.
        """
        source = self.work / name
        source.write_text(text)
        return self._run(
            [str(command), str(source)],
            BASE_URL=f"{self.base_url}/v1",
            CAPIO_API_KEY=self.key,
            **variables,
        )

    def node_client(self, package: str, *arguments: str, **variables: str) -> AgentRun:
        """Run the command of a package that needs a newer Node than systems have."""
        node = packages.command_of(packages.NODE)
        command = packages.command_of(package, node)
        return self._run([str(command), *arguments], PATH=packages.path_with(node), **variables)

    def run(self, command: list[str], **variables: str) -> AgentRun:
        """Run a command in the agent's directories, with these variables beside its own."""
        return self._run(command, **variables)

    def _run(self, command: list[str], **variables: str) -> AgentRun:
        """Run to the end; a run that takes too long ends with all its children, exit code -9."""
        began = time.monotonic()
        running = subprocess.Popen(
            command,
            cwd=self.work,
            env=self._environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = running.communicate(timeout=RUN_S)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            stdout, stderr = running.communicate()
        return AgentRun(running.returncode, stdout, stderr, time.monotonic() - began)

    def _environment(self) -> dict[str, str]:
        """No variable of this process but PATH; every proxy leads to a closed port."""
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), _CLOSED)
        proxies |= {name.lower(): proxy for name, proxy in proxies.items()}
        return {
            **proxies,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_DATA_HOME": str(self.home / ".local" / "share"),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "XDG_STATE_HOME": str(self.home / ".local" / "state"),
            "TMPDIR": str(self.home),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
        }
