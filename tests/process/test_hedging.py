"""A slow deployment, and a second one that is asked: what clients get, pay and can look up."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import sqlalchemy as sa

from gateway.core.routing.hedging import FEWEST_TIMES
from gateway.settings import Server, Settings, Sql
from gateway.store.sql.database import Database
from gateway.store.sql.tables import LEDGER_ENTRIES, USAGE_EVENTS
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.postgres import DATABASES, PostgresServer
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

PROMPT: Any = [{"role": "user", "content": "/tokens 5"}]
INPUT_NANOUSD, OUTPUT_NANOUSD = 1_000, 2_000
CONFIG = """
[[providers]]
name = "main"
openai = {{ base_url = "http://127.0.0.1:{main}/v1" }}
anthropic = {{ base_url = "http://127.0.0.1:{main}" }}

[[providers]]
name = "spare"
openai = {{ base_url = "http://127.0.0.1:{spare}/v1" }}

[[models]]
name = "m"
policy = "priority"
prices = {{ input = "1", output = "2" }}
hedge = {{ min_delay_s = 0.3, budget_percent = 100 }}
deployments = [
  {{ provider = "main", model = "up", cost = {{ input = "0.5", output = "1" }} }},
  {{ provider = "spare", model = "up", cost = {{ input = "0.6", output = "1" }} }},
]
"""


class Scene:
    """
    Two deployments of one upstream, and a gateway that knows how fast they usually are.

    Args:
        home: Of the gateway.
        sql: URL of its database; None: the embedded one.
    """

    def __init__(self, home: Path, sql: str | None = None) -> None:
        self.main, spare = free_port(), free_port()
        command = [sys.executable, "-m", "gateway.demo", str(self.main), "0"]
        self._demo = subprocess.Popen([*command, "--spare", str(spare)], stdout=subprocess.DEVNULL)
        extra = "" if sql is None else f'[sql]\nurl = "{sql}"\n'
        config = CONFIG.format(main=self.main, spare=spare)
        self.process = GatewayProcess(home, config, workers=1, extra=extra)
        self._settings = Settings(
            server=Server(data_dir=str(self.process.data_dir)), sql=Sql(url=sql or "embedded")
        )
        self.process.start()
        self.process.capio("accounts", "create", "t", "--postpaid", "--json")
        made = self.process.capio("keys", "create", "--account", "t", "--name", "k", "--json")
        self.key: str = json.loads(made)["key"]
        url = self.process.base_url
        self.chat = openai.OpenAI(api_key=self.key, base_url=f"{url}/v1", max_retries=0)
        self.messages = anthropic.Anthropic(api_key=self.key, base_url=url, max_retries=0)

    def stop(self) -> None:
        self.chat.close()
        self.messages.close()
        self.process.stop()
        self._demo.terminate()
        self._demo.wait(10)

    def learn(self) -> None:
        """
        Make the calls after which the gateway knows what is slow, and some more.

        A client that closes its connection right after the last event may be recorded as one that
        left, and the time of such a call is not learned.
        """
        for _ in range(FEWEST_TIMES + 5):
            for stream in (False, True):
                assert self.ask_chat(stream=stream)[0] == "main"

    def ask_chat(self, *, stream: bool) -> tuple[str, str, str]:
        """Return who served a chat completion, its request id and its text."""
        raw = self.chat.chat.completions.with_raw_response
        answer = raw.create(model="m", messages=PROMPT, stream=stream)
        parsed: Any = answer.parse()
        if stream:
            deltas = [choice.delta.content or "" for event in parsed for choice in event.choices]
            text = "".join(deltas)
        else:
            text = parsed.choices[0].message.content
        return answer.headers["x-capio-provider"], answer.headers["x-request-id"], text

    def ask_messages(self) -> tuple[str, str, str]:
        """Return who served a streamed message, its request id and its text."""
        with self.messages.messages.stream(model="m", max_tokens=50, messages=PROMPT) as events:
            text = "".join(events.text_stream)
            headers = events.response.headers
        return headers["x-capio-provider"], headers["request-id"], text

    def upstream(self, path: str, method: str, body: object = None) -> Any:
        """Administer the upstream."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{self.main}{path}", data, method=method)
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return json.load(answer)

    def generation(self, request_id: str) -> dict[str, Any]:
        """Return the record of a call once it is there."""
        found: dict[str, Any] = {}
        refusals: list[str] = []
        asked = urllib.request.Request(
            f"{self.process.base_url}/v1/generation?id={request_id}",
            headers={"authorization": f"Bearer {self.key}"},
        )

        def arrived() -> bool:
            try:
                with urllib.request.urlopen(asked, timeout=5) as answer:
                    found.update(json.load(answer))
            except urllib.error.HTTPError as refusal:
                with refusal:
                    refusals[:] = [f"{refusal.code} {refusal.read().decode()}"]
                return False
            return True

        try:
            wait_until_sync(arrived, 60)
        except AssertionError as error:
            raise AssertionError(f"{refusals} {self.process.log()[-4000:]}") from error
        return found

    def booked(self, request_id: str) -> tuple[int, int, int, list[dict[str, Any]]]:
        """Return what SQL holds of a call: its ledger entries, charge, our cost and attempts."""
        return asyncio.run(self._booked(request_id))

    async def _booked(self, request_id: str) -> tuple[int, int, int, list[dict[str, Any]]]:
        amounts = sa.select(sa.func.sum(LEDGER_ENTRIES.c.amount_nanousd)).where(
            LEDGER_ENTRIES.c.request_id == request_id
        )
        columns = USAGE_EVENTS.c
        events = sa.select(columns.cost_nanousd, columns.upstream_cost_nanousd, columns.chain)
        database = Database(self._settings)
        try:
            async with database.read() as connection:
                total = (await connection.execute(amounts)).scalar_one()
                found = await connection.execute(events.where(columns.request_id == request_id))
                ((cost, ours, chain),) = found.all()
        finally:
            await database.aclose()
        return -int(total), cost, ours, json.loads(chain)


@pytest.fixture(scope="module", params=DATABASES)
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """One gateway of each kind of database for all tests, whose only worker has learned."""
    sql = None
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        sql = server.create_database(request.getfixturevalue("migrated_postgres"))
    made = Scene(tmp_path_factory.mktemp("hedging"), sql)
    try:
        made.learn()
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("how", ["chat", "chat streamed", "messages streamed"])
@pytest.mark.parametrize("fault", ["hang_head", "hang_stream"])
def test_slow_deployment_costs_the_client_nothing(scene: Scene, how: str, fault: str) -> None:
    """The other one serves the call, relayed or translated, and one of the two is charged."""
    if how.startswith("messages"):
        for _ in range(20):
            scene.ask_messages()
    scene.upstream("/served", "DELETE")
    rule = {"fault": {"kind": fault, "after": 0}, "deployment": "main", "times": 1}
    scene.upstream("/faults", "PUT", [rule])
    if how.startswith("messages"):
        provider, request_id, text = scene.ask_messages()
    else:
        provider, request_id, text = scene.ask_chat(stream="streamed" in how)
    record = scene.generation(request_id)

    assert (provider, text.split()[0]) == ("spare", "Hello")
    served = {row["deployment"]: row for row in scene.upstream("/served", "GET")}
    assert served["spare"]["ending"] == "complete"
    assert served["main"]["ending"] != "complete"
    shown = [(each["provider"], each["result"], each["hedge"]) for each in record["chain"]]
    assert shown == [("main", "lost", False), ("spare", "ok", True)]
    assert record["attempts"] == 2
    usage = served["spare"]["input_tokens"], served["spare"]["output_tokens"]
    price = usage[0] * INPUT_NANOUSD + usage[1] * OUTPUT_NANOUSD
    charged, cost, ours, chain = scene.booked(request_id)
    assert charged == cost == record["cost_nanousd"] == price
    lost = chain[0]["cost_nanousd"]
    assert lost > 0
    assert "cost_nanousd" not in chain[1]
    assert ours == usage[0] * 600 + usage[1] * 1_000 + lost


def test_metrics_say_how_hedges_ended_and_what_they_cost(scene: Scene) -> None:
    """By deployment: the one that won, and the one whose work was for nothing."""
    rule = {"fault": {"kind": "hang_head"}, "deployment": "main", "times": 1}
    scene.upstream("/faults", "PUT", [rule])
    assert scene.ask_chat(stream=False)[0] == "spare"

    won = 'gateway_hedges_total{deployment="spare/up",result="won"}'
    wait_until_sync(lambda: won in scene.process.metrics(), 10)
    assert 'gateway_hedge_cost_dollars_total{deployment="main/up"}' in scene.process.metrics()
