"""The set-ups on the pages of the documentation work as they are written there."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from gateway.console.library.library import Library
from gateway.console.library.markdown import Snippet
from gateway.console.library.site import site_of
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import load
from tests.agents import packages
from tests.agents.clients import Agent
from tests.agents.conftest import OPENAI_MODEL, Service
from tests.agents.packages import long_form

pytestmark = [pytest.mark.agents, pytest.mark.process, pytest.mark.timeout(300)]

HELLO = "Hello from the demo upstream!"


def documented(service: Service, client: str) -> Snippet:
    """The set-up that the service's own page of a client shows, with its address."""
    settings = load(service.gateway.config_path, capabilities)
    brand = msgspec.structs.replace(settings.brand, public_url=service.front.base_url)
    models = sorted(settings.models, key=lambda each: each.name != OPENAI_MODEL)
    library = Library(site_of(msgspec.structs.replace(settings, brand=brand, models=models)))
    snippets = library.pages[f"/docs/clients/{client}"].rendered.snippets
    return next(each for each in snippets if each.test == client)


def test_claude_code_works_as_documented(service: Service, agent: Agent) -> None:
    """The exported variables are all it needs."""
    text = documented(service, "claude-code").text.replace("$CAPIO_API_KEY", agent.key)
    variables = dict(re.findall(r'^export (\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    command = packages.command_of(packages.CLAUDE_CODE)

    run = agent.run(
        [str(command), "-p", "Hello", "--output-format", "json"],
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        **variables,
    )

    assert run.exit_code == 0, run
    assert json.loads(run.stdout)["result"].startswith(HELLO), run


def test_codex_works_as_documented(service: Service, agent: Agent) -> None:
    """The file is all it needs, with the key in the environment."""
    folder = agent.home / ".codex"
    folder.mkdir()
    text = documented(service, "codex").text
    (folder / "config.toml").write_text(f"{text}\n[analytics]\nenabled = false\n")
    command = packages.command_of(packages.CODEX)

    run = agent.run(
        [str(command), "exec", "--skip-git-repo-check", "--json", "Hello"],
        CODEX_HOME=str(folder),
        CAPIO_API_KEY=agent.key,
    )

    assert run.exit_code == 0, run
    assert HELLO in run.stdout, run


@long_form
def test_opencode_works_as_documented(service: Service, agent: Agent) -> None:
    """The file is all it needs, with the key in the environment."""
    (agent.work / "opencode.json").write_text(documented(service, "opencode").text)
    command = packages.command_of(packages.OPENCODE)

    run = agent.run(
        [str(command), "run", "--model", f"capio/{OPENAI_MODEL}", "Hello"],
        CAPIO_API_KEY=agent.key,
        OPENCODE_DISABLE_MODELS_FETCH="1",
        OPENCODE_DISABLE_AUTOUPDATE="1",
        OPENCODE_DISABLE_LSP_DOWNLOAD="1",
        OPENCODE_DISABLE_DEFAULT_PLUGINS="1",
    )

    assert run.exit_code == 0, run
    assert HELLO in run.stdout, run


@long_form
def test_openclaw_works_as_documented(service: Service, agent: Agent) -> None:
    """The file is all it needs, with the key in it; the test adds where it works."""
    folder = agent.home / ".openclaw"
    folder.mkdir()
    text = documented(service, "openclaw").text.replace("sk-capio-live-...", agent.key)
    config = json.loads(text)
    config["agents"]["defaults"]["workspace"] = str(agent.work)
    (folder / "openclaw.json").write_text(json.dumps(config))

    run = agent.node_client(
        packages.OPENCLAW,
        *("agent", "--local", "--agent", "main", "--message", "Hello", "--json"),
    )

    assert run.exit_code == 0, run
    assert HELLO in run.stdout, run
