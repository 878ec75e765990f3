"""Providers and models added, changed and removed through the admin API of a running gateway."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.service import HELLO, OPENAI_MODEL, DemoProcess
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

TOKEN = "operator-0123456789abcdefghijklmnopqrstuv"
CREDENTIAL = "credential-of-extra-81c2"
PROMPT_TOKENS = 4000


class Gateway:
    """Two workers with an operator's token and a customer's key."""

    def __init__(self, home: Path, demo: DemoProcess, *, sql_only: bool = False) -> None:
        token_file = home / "admin.token"
        token_file.write_text(TOKEN)
        self.demo = demo
        self.called = ""
        self.process = GatewayProcess(
            home,
            "[catalogue]\nsql_only = true" if sql_only else demo.config(),
            workers=1 if sql_only else 2,
            extra=f"[admin]\ntoken_file = {json.dumps(str(token_file))}\n",
            environment={"EXTRA_API_KEY": CREDENTIAL},
        )
        self.key = ""

    def start(self) -> None:
        """Start it, and make an account with a key."""
        self.process.start()
        made = self.admin("POST", "accounts", {"name": "tests", "billing": "postpaid"})
        self.key = self.admin("POST", "keys", {"account_id": made["id"], "name": "k"})["key"]

    def send(self, method: str, path: str, body: object = None) -> httpx2.Response:
        """Send a request to `/admin/...`."""
        headers = {"authorization": f"Bearer {TOKEN}", "x-actor": "alice"}
        url = f"{self.process.base_url}/admin/{path}"
        return httpx2.request(method, url, json=body, headers=headers, timeout=10)

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON of a response, which must be no error."""
        response = self.send(method, path, body)
        assert response.status_code < 300, response.text
        return response.json()

    def add(self) -> Any:
        """Add a provider and a model at it."""
        base = f"http://127.0.0.1:{self.demo.port}/v1"
        provider = {"openai": {"base_url": base}, "api_key_env": "EXTRA_API_KEY"}
        self.admin("PUT", "providers/extra", provider)
        return self.admin("PUT", "models/team/extra", self.model("1"))

    def model(self, price: str) -> dict[str, object]:
        """Return the settings of the model."""
        deployments = [{"provider": "extra", "model": OPENAI_MODEL}]
        return {"deployments": deployments, "prices": {"input": price, "output": "0"}}

    def call(self, model: str = "team/extra") -> str:
        """Call a model from OpenAI's SDK on a connection of its own; return the text."""
        base_url = f"{self.process.base_url}/v1"
        with openai.OpenAI(api_key=self.key, base_url=base_url, max_retries=0) as client:
            raw = client.chat.completions.with_raw_response.create(
                model=model, messages=[{"role": "user", "content": "hi " * PROMPT_TOKENS}]
            )
        self.called = raw.headers["x-request-id"]
        return raw.parse().choices[0].message.content or ""

    def cost_per_token(self) -> float:
        """Return the nano-dollars per input token of the last call."""
        path = f"calls/{self.called}"
        wait_until_sync(lambda: self.send("GET", path).status_code == 200)
        found = self.admin("GET", path)
        return float(found["cost_nanousd"] / found["input_tokens"])

    def problems(self) -> list[str]:
        """Return what the log says of entries that are left out."""
        return [
            line for line in self.process.log().splitlines() if "catalogue_entry_rejected" in line
        ]


@pytest.fixture
def gateway(tmp_path: Path, demo_upstream: DemoProcess) -> Iterator[Gateway]:
    """A gateway of the test's own."""
    made = Gateway(tmp_path, demo_upstream)
    try:
        made.start()
        yield made
    finally:
        made.process.stop()


def test_a_model_is_added_called_changed_and_removed(gateway: Gateway) -> None:
    """Both workers serve each change by the time its response arrives, within a second."""
    began = time.monotonic()
    added = gateway.add()
    assert time.monotonic() - began < 2.0  # two changes
    assert (added["in_force"], added["origin"], added["problems"]) == (True, "sql", [])
    assert added["workers"] == {"serving": 2, "total": 2}
    for _ in range(12):
        assert gateway.call().startswith(HELLO)
    assert gateway.cost_per_token() == pytest.approx(1000, rel=0.01)

    gateway.admin("PUT", "models/team/extra", gateway.model("3"))
    gateway.call()
    assert gateway.cost_per_token() == pytest.approx(3000, rel=0.01)

    refused = gateway.send("DELETE", "providers/extra")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "entry_in_use")
    gateway.admin("DELETE", "models/team/extra")
    gateway.admin("DELETE", "providers/extra")
    for _ in range(12):
        with pytest.raises(openai.NotFoundError):
            gateway.call()
    assert gateway.call(OPENAI_MODEL).startswith(HELLO)

    changes = gateway.admin("GET", "audit?object=team/extra")["data"]
    assert [each["action"] for each in changes] == ["model.delete", "model.change", "model.create"]
    assert {each["actor"] for each in changes} == {"admin:alice"}
    assert [changes[1][side]["prices"]["input"] for side in ("before", "after")] == ["1", "3"]
    assert CREDENTIAL not in json.dumps(changes) + gateway.process.log()


def test_gateway_starts_without_any_model_and_gets_them_by_the_api(
    tmp_path: Path, demo_upstream: DemoProcess
) -> None:
    """Until then the error of a call says what its operator has to do."""
    gateway = Gateway(tmp_path, demo_upstream, sql_only=True)
    try:
        gateway.start()
        with pytest.raises(openai.InternalServerError, match="no models yet") as refused:
            gateway.call()
        assert refused.value.status_code == 503
        assert "/admin/models" in refused.value.message
        assert "no model is served" in gateway.process.capio("doctor")

        gateway.add()

        assert gateway.call().startswith(HELLO)
    finally:
        gateway.process.stop()


def test_new_workers_and_a_reload_of_the_file_keep_the_entries(gateway: Gateway) -> None:
    """Replaced workers read SQL at their start; after a reload the file wins, as the API says."""
    gateway.add()

    gateway.process.capio("restart")
    for _ in range(8):
        assert gateway.call().startswith(HELLO)

    with gateway.process.config_path.open("a") as config:
        config.write(
            '[[models]]\nname = "team/extra"\nprices = { input = "5" }\n'
            f'deployments = [{{ provider = "demo", model = "{OPENAI_MODEL}" }}]\n'
        )
    gateway.process.capio("reload")
    gateway.call()
    assert gateway.cost_per_token() == pytest.approx(5000, rel=0.01)

    def states() -> list[tuple[str, bool]]:
        listed = gateway.admin("GET", "models")["data"]
        return [(e["origin"], e["in_force"]) for e in listed if e["name"] == "team/extra"]

    wait_until_sync(lambda: states() == [("file", True), ("sql", False)])
    changed = gateway.admin("PUT", "models/team/extra", gateway.model("9"))
    assert (changed["in_force"], changed["overridden_by_file"]) == (False, True)
    assert "the configuration file has an entry of this name" in changed["problems"][0]
    gateway.call()
    assert gateway.cost_per_token() == pytest.approx(5000, rel=0.01)


def test_a_broken_row_is_left_out_and_reported(gateway: Gateway) -> None:
    """Neither a row that no one checked nor a missing variable ends a worker."""
    gateway.add()
    missing = {"openai": {"base_url": "https://x.example/v1"}, "api_key_env": "MISSING_API_KEY"}
    added = gateway.admin("PUT", "providers/missing", missing)
    assert "MISSING_API_KEY is not set" in added["problems"][0]

    write = (
        "insert into catalogue_entries values ('model', 'broken', '{\"context\": 0}', 1, 1);"
        "insert into catalogue_entries values ('model', 'torn', '{', 1, 1);"
        "update service_values set value = 'by hand' where name = 'catalogue_revision'"
    )
    run_sql(gateway.process.data_dir / "capio.db", write)

    wait_until_sync(
        lambda: (
            gateway.admin("GET", "catalogue")["workers"] == {"serving": 2, "total": 2}
            and gateway.admin("GET", "catalogue")["revision"] == "by hand"
        ),
        timeout_s=40,
    )
    listed = {each["name"]: each for each in gateway.admin("GET", "models?origin=sql")["data"]}
    assert listed["team/extra"]["in_force"]
    assert not listed["broken"]["in_force"]
    assert "models.broken.context: 0" in "\n".join(listed["broken"]["problems"])
    assert not listed["torn"]["in_force"]
    assert any("models.broken.context" in line for line in gateway.problems())
    assert "gateway_catalogue_rejected_entries 3.0" in gateway.process.metrics()
    gateway.process.capio("restart")
    for _ in range(4):
        assert gateway.call().startswith(HELLO)
    assert gateway.admin("DELETE", "models/torn")["published"]


def run_sql(path: Path, script: str) -> None:
    """Change the database as a hand would."""
    with closing(sqlite3.connect(path, timeout=10)) as database:
        database.executescript(script)
