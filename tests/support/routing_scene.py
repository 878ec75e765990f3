"""Two upstreams that cache prompts, a gateway of two workers before them, and OpenAI's SDK."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai

from tests.support.caching_upstream import CachingUpstream
from tests.support.gateway_process import GatewayProcess

ROUTING = """
[routing]
breaker_failures = 2
breaker_open_s = 0.5
out_probe_s = 0.5
affinity = {affinity}
probes = {probes}
"""
PROVIDER = """
[[providers]]
name = "{name}"
openai = {{ base_url = "{url}" }}
api_keys = [{{ file = "{home}/one" }}, {{ file = "{home}/two" }}]
"""
MODELS = """
[[models]]
name = "flash"
prices = { input = "1", output = "2", cache_read = "0.1" }
deployments = [
  { provider = "a", model = "m", cost = { input = "0.5", output = "1" } },
  { provider = "b", model = "m", cost = { input = "0.5", output = "1" } },
]

[[models]]
name = "solo"
prices = { input = "10", output = "20" }
deployments = [{ provider = "a", model = "m" }]
fallbacks = ["flash"]

[[models]]
name = "backup"
prices = { input = "100", output = "200" }
deployments = [{ provider = "b", model = "m-backup" }]
"""


class Scene:
    """
    Two upstreams, a gateway of two workers before them, and a key.

    Args:
        home: Of the gateway.
        affinity, probes: Settings of `[routing]`.
        extra: Further TOML of whole sections.
    """

    def __init__(
        self, home: Path, *, affinity: str = "true", probes: str = "true", extra: str = ""
    ) -> None:
        self.a, self.b = CachingUpstream().start(), CachingUpstream().start()
        home.mkdir(parents=True, exist_ok=True)
        (home / "one").write_text("upstream-key-1")
        (home / "two").write_text("upstream-key-2")
        providers = "".join(
            PROVIDER.format(name=name, url=upstream.base_url, home=home)
            for name, upstream in (("a", self.a), ("b", self.b))
        )
        routing = ROUTING.format(affinity=affinity, probes=probes)
        self.process = GatewayProcess(home, providers + MODELS, extra=routing + extra)
        self.process.start()
        (account,) = json.loads(
            self.process.capio("accounts", "create", "t", "--postpaid", "--json")
        )
        arguments = ("keys", "create", "--account", account["id"], "--name", "t", "--json")
        self.key: str = json.loads(self.process.capio(*arguments))["key"]
        self.client = openai.OpenAI(
            base_url=f"{self.process.base_url}/v1", api_key=self.key, max_retries=0
        )

    def stop(self) -> None:
        self.client.close()
        self.process.stop()
        self.a.stop()
        self.b.stop()

    def ask(self, text: str = "Hello", model: str = "flash", **more: Any) -> Any:
        """Return the response of one call, headers included."""
        raw = self.client.chat.completions.with_raw_response
        return raw.create(model=model, messages=[{"role": "user", "content": text}], **more)

    def states(self) -> dict[str, str]:
        """Return what `capio health` shows."""
        rows = json.loads(self.process.capio("health", "--json"))
        return {row["deployment"]: row["state"] for row in rows}

    def generation(self, request_id: str) -> dict[str, Any]:
        """Return the record of a call once it is there."""
        request = urllib.request.Request(
            f"{self.process.base_url}/v1/generation?id={request_id}",
            headers={"authorization": f"Bearer {self.key}"},
        )
        found: dict[str, Any] = {}

        def arrived() -> bool:
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    found.update(json.load(answer))
            except urllib.error.HTTPError as answer:
                answer.close()
                return False
            return True

        until(arrived, "the record never came")
        return found


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
