"""README.md and docs/clients.md are true: their snippets run, their set-ups fit the demo."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.protocols.translate.capabilities import capabilities
from gateway.server.demonstration import demo_settings, introduction
from gateway.settings import load
from tests.support.service import Key, Service

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SHELL = [text for kind, text in BLOCKS if kind == "sh"]
URL = "http://127.0.0.1:8080"
CONFIG = next(text for kind, text in BLOCKS if kind == "toml" and "[[providers]]" in text)
CLIENTS = re.findall(
    r"^```(\w+)\n(.*?)^```",
    (ROOT / "docs" / "clients.md").read_text("utf-8"),
    re.MULTILINE | re.DOTALL,
)
CODEX = next(text for kind, text in CLIENTS if kind == "toml" and "wire_api" in text)


def run(command: list[str], cwd: Path, **environment: str) -> str:
    """Run a command to its end; return what it prints."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def capio(arguments: list[str], home: Path) -> str:
    """Run the command line in a directory with a configuration, without a process for each."""
    with contextlib.chdir(home):
        done = CliRunner().invoke(main, arguments, env={"DEEPSEEK_API_KEY": "a-credential"})
    assert done.exit_code == 0, f"{arguments}: {done.output}{done.exception!r}"
    return done.stdout


@pytest.mark.parametrize("snippet", [text for kind, text in BLOCKS if kind == "python"])
def test_snippet_of_an_sdk_prints_an_answer(
    snippet: str, gateway: Service, key: Key, tmp_path: Path
) -> None:
    """A snippet runs with nothing but a key."""
    code = snippet.replace(URL, gateway.url)
    assert code != snippet

    printed = run([sys.executable, "-c", code], tmp_path, CAPIO_API_KEY=key.raw)

    assert "Hello from the demo upstream" in printed


@pytest.mark.parametrize("snippet", [text for text in SHELL if "curl " in text])
def test_snippet_of_curl_is_answered(
    snippet: str, gateway: Service, key: Key, tmp_path: Path
) -> None:
    """No call fails or returns an error."""
    kept = [line for line in snippet.split("\n") if not line.startswith("export CAPIO_API_KEY")]
    script = "\n".join(kept).replace(URL, gateway.url).replace("curl ", "curl -sS --fail ")

    printed = run(["bash", "-euc", script], tmp_path, CAPIO_API_KEY=key.raw)

    assert '"error"' not in printed
    assert printed.count("{") >= snippet.count("curl ")


def test_commands_work_in_their_order(tmp_path: Path) -> None:
    """Typed one after the other, every command succeeds."""
    (tmp_path / "capio.toml").write_text(CONFIG)
    ran = 0

    for block in [text for text in SHELL if "capio " in text and "curl " not in text]:
        commands = block
        if "KEY_ID" in block:
            another = ["keys", "create", "--account", "acme", "--name", "another", "--json"]
            commands = block.replace("KEY_ID", json.loads(capio(another, tmp_path))["id"])
        for words in map(shlex.split, commands.strip().split("\n")):
            if words[0] == "capio":
                capio(words[1:], tmp_path)
                ran += 1

    assert ran == len(re.findall(r"^capio ", "\n".join(SHELL), re.MULTILINE))


def test_shortest_configuration_is_valid(tmp_path: Path) -> None:
    """The shortest configuration of the README is accepted as it is."""
    path = tmp_path / "capio.toml"
    path.write_text(CONFIG)

    settings = load(path, capabilities)

    assert [model.name for model in settings.models] == ["deepseek-v4-flash"]


def test_clients_are_set_up_with_models_that_the_demo_has() -> None:
    """The client set-ups work beside `make run`, with only the key changed."""
    models = {model.name for model in demo_settings(8080, 9464, 1, 1).models}
    opencode, openclaw, pi, kilo = [json.loads(text) for kind, text in CLIENTS if kind == "json"]
    shell = "".join(text for kind, text in CLIENTS if kind == "sh")
    provider = openclaw["models"]["providers"]["capio"]
    defaults = openclaw["agents"]["defaults"]["model"]

    named = {
        *opencode["provider"]["capio"]["models"],
        *kilo["provider"]["capio"]["models"],
        *(model["id"] for model in provider["models"]),
        *(name.removeprefix("capio/") for name in (defaults["primary"], *defaults["fallbacks"])),
        *(model["id"] for model in pi["providers"]["capio"]["models"]),
        *re.findall(r"=capio/(\S+)", shell),
        *re.findall(r"(?:--model (?:capio/)?|-m |(?:OPENAI|COPILOT)_MODEL=)(\S+)", shell),
        *re.findall(r"model: (\S+)", "".join(text for kind, text in CLIENTS if kind == "yaml")),
        tomllib.loads(CODEX)["model"],
    }

    assert named <= models
    assert len(named) > 2


def test_clients_of_the_table_have_a_set_up() -> None:
    """The README's table and the page have the same clients."""
    page = (ROOT / "docs" / "clients.md").read_text("utf-8")
    linked = re.findall(r"docs/clients\.md#([a-z-]+)", TEXT)
    titles = re.findall(r"^## (.+)$", page, re.MULTILINE)

    assert linked == [title.lower().replace(" ", "-") for title in titles]


def test_output_of_make_run_is_what_the_demo_prints() -> None:
    """The output in the README is the demo's, up to its last two lines about the machine."""
    shown = next(text for kind, text in BLOCKS if kind == "text" and "Your key" in text)
    key = re.search(r"sk-capio-live-\w+", shown)
    dashboard = re.search(r"http://\S+/enter#\S+", shown)
    assert key is not None
    assert dashboard is not None

    printed = introduction(demo_settings(8080, 9464, 1, 1), key[0], dashboard[0])

    assert shown.strip() == printed.strip().split("\n  Data ")[0]


def test_links_lead_somewhere() -> None:
    """Every relative link names an existing file."""
    targets = {target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", TEXT)}

    assert [target for target in targets if not (ROOT / target).exists()] == []
