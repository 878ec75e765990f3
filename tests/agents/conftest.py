"""Agent -> tap -> gateway -> tap -> demo upstream, one for all tests of agents."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.clients import Agent
from tests.agents.tap import Tap
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.waiting import wait_until_sync

PACE_S = "0.002"
OPENAI_MODEL = "deepseek-v4-flash"
"""Only on an OpenAI-wire upstream."""
ANTHROPIC_MODEL = "claude-opus-4-8"
"""Only on an Anthropic-wire upstream."""
REASONING_MODEL = "gpt-5.5"
"""Only on an OpenAI-wire upstream that refuses `max_tokens`, as OpenAI's own."""

CODE_MODE_MODELS = {"gpt-5.6-sol": "/v1/messages", "gpt-5.6-sol-chat": "/v1/chat/completions"}
"""Codex knows models by how their names begin: these call tools from JavaScript, by upstream."""
FUNCTION_MODELS = {"gpt-5.5-messages": "/v1/messages", "gpt-5.5": "/v1/chat/completions"}
"""Models that Codex lets call tools one by one, and search for further ones."""

_CONFIG = """
[[providers]]
name = "chat"
dialect = "deepseek"
openai = {{ base_url = "http://127.0.0.1:{port}/v1" }}

[[providers]]
name = "messages"
dialect = "anthropic"
anthropic = {{ base_url = "http://127.0.0.1:{port}" }}

[[providers]]
name = "strict"
dialect = "openai"
openai = {{ base_url = "http://127.0.0.1:{port}/v1" }}

[[models]]
name = "gpt-5.5"
context = 1_000_000
max_output = 64_000
deployments = [{{ provider = "strict", model = "upstream-gpt" }}]

[[models]]
name = "gpt-5.6-sol"
context = 1_000_000
max_output = 64_000
deployments = [{{ provider = "messages", model = "upstream-messages" }}]

[[models]]
name = "gpt-5.6-sol-chat"
context = 1_000_000
max_output = 64_000
deployments = [{{ provider = "strict", model = "upstream-gpt" }}]

[[models]]
name = "gpt-5.5-messages"
context = 1_000_000
max_output = 64_000
deployments = [{{ provider = "messages", model = "upstream-messages" }}]

[[models]]
name = "deepseek-v4-flash"
aliases = ["claude-sonnet-4-6"]
context = 1_000_000
max_output = 64_000
deployments = [{{ provider = "chat", model = "upstream-chat" }}]

[[models]]
name = "claude-opus-4-8"
context = 1_000_000
max_output = 64_000
deployments = [{{ provider = "messages", model = "upstream-messages" }}]
"""


class Service:
    """The running gateway with both its sides tapped."""

    def __init__(self, home: Path, demo_port: int) -> None:
        self.upstream = Tap(demo_port)
        self.gateway = GatewayProcess(home, _CONFIG.format(port=self.upstream.port), workers=1)
        self.front = Tap(self.gateway.port)
        self.key = ""

    def start(self) -> None:
        """Start the gateway and mint a key."""
        self.gateway.start()
        self.gateway.capio("accounts", "create", "agents", "--postpaid")
        made = self.gateway.capio("keys", "create", "--account=agents", "--name=agents", "--json")
        self.key = json.loads(made)["key"]

    def close(self) -> None:
        """End what was started."""
        self.gateway.stop()
        self.front.close()
        self.upstream.close()


@pytest.fixture(scope="session")
def running_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The gateway, its demo upstream and the taps, for the whole run."""
    port = free_port()
    demo = subprocess.Popen([sys.executable, "-m", "gateway.demo", str(port), PACE_S])
    service = Service(tmp_path_factory.mktemp("service"), port)
    try:
        wait_until_sync(lambda: _listens(port), 30)
        service.start()
        yield service
    finally:
        service.close()
        demo.terminate()
        demo.wait(10)


@pytest.fixture
def service(running_service: Service) -> Service:
    """The service without recorded requests."""
    running_service.front.seen.clear()
    running_service.upstream.seen.clear()
    return running_service


@pytest.fixture
def agent(tmp_path: Path, service: Service) -> Agent:
    """An agent with the service's key."""
    return Agent(tmp_path / "agent", service.front.base_url, service.key)


@pytest.fixture
def stranger(tmp_path: Path, service: Service) -> Agent:
    """An agent whose key the service does not know."""
    return Agent(tmp_path / "stranger", service.front.base_url, "sk-capio-live-" + "x" * 43)


def _listens(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", data=b"{}", timeout=1)
    except urllib.error.HTTPError as answer:
        answer.close()
        return True
    except OSError:
        return False
    return True
