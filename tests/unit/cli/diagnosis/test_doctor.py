"""`capio doctor` against real stores and providers that the test serves."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.demo.server import Exchange, whole
from tests.support.gateway_process import free_port
from tests.support.postgres import copy_migrated
from tests.support.scripted import ScriptedThread
from tests.support.valkey import ValkeyProcess

pytestmark = pytest.mark.redis

GOOD = "sk-good"


async def list_models(exchange: Exchange) -> None:
    """Serve a list of models on the OpenAI wire, for one credential, and none on the other."""
    status, body = 404, b"{}"
    if exchange.target == "/v1/models":
        accepted = exchange.header("authorization") == [f"Bearer {GOOD}"]
        status = 200 if accepted else 401
        body = b'{"data": [{"id": "listed"}]}' if accepted else b"{}"
    await exchange.send(whole(body, status))


@pytest.fixture
def provider_url() -> Iterator[str]:
    server = ScriptedThread(list_models).start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def config_of(tmp_path: Path, provider_url: str, redis_url: str, further: str = "") -> Path:
    path = tmp_path / "capio.toml"
    path.write_text(
        f"""
[server]
data_dir = "{tmp_path}/data"
{further}

[redis]
url = "{redis_url}"

[[providers]]
name = "one"
openai = {{ base_url = "{provider_url}/v1" }}
anthropic = {{ base_url = "{provider_url}/anthropic" }}
api_key_env = "ONE_KEY"

[[models]]
name = "m"
deployments = [
  {{ provider = "one", model = "listed" }},
  {{ provider = "one", model = "unlisted" }},
]
""",
        "utf-8",
    )
    return path


def findings(path: Path, **environ: str | None) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """Exit code, and by subject the states with detail and remedy."""
    result = CliRunner().invoke(main, ["doctor", "--json", "--config", str(path)], env=environ)
    found: dict[str, list[tuple[str, str]]] = {}
    for each in json.loads(result.stdout):
        text = f"{each['detail']} -> {each['remedy']}"
        found.setdefault(each["subject"], []).append((each["state"], text))
    return result.exit_code, found


def test_sound_surroundings_are_ok_with_warnings(
    tmp_path: Path, provider_url: str, valkey_url: str
) -> None:
    """The exit code is 0: a Redis without persistence and an unlisted model are warnings."""
    path = config_of(tmp_path, provider_url, valkey_url)

    code, found = findings(path, ONE_KEY=GOOD)

    assert code == 0
    assert [state for state, _ in found["redis"]] == ["ok", "warning", "ok"]
    assert "Valkey" in found["redis"][0][1]
    assert "appendonly" in found["redis"][1][1]
    assert [state for state, _ in found["sql"]] == ["ok"]
    openai = found["provider one (openai)"]
    assert [state for state, _ in openai] == ["ok", "warning"]
    assert "the credential is accepted" in openai[0][1]
    assert "lacks unlisted" in openai[1][1]
    assert found["provider one (anthropic)"][0][0] == "ok"
    assert "the credential is not checked" in found["provider one (anthropic)"][0][1]


def test_each_fault_has_its_remedy_and_the_exit_code_is_1(
    tmp_path: Path, provider_url: str
) -> None:
    """A refused credential, a Redis that is not there and an unusable certificate."""
    (tmp_path / "cert.pem").write_text("nonsense", "utf-8")
    tls = f'tls_cert_file = "{tmp_path}/cert.pem"\ntls_key_file = "{tmp_path}/cert.pem"'
    path = config_of(tmp_path, provider_url, f"redis://127.0.0.1:{free_port()}", tls)

    code, found = findings(path, ONE_KEY="sk-wrong")

    assert code == 1
    assert found["redis"][0][0] == "error"
    assert "check redis.url" in found["redis"][0][1]
    assert found["provider one (openai)"] == [
        (
            "error",
            "the credential is refused (HTTP 401) -> check api_key_env, api_key_file or api_keys",
        )
    ]
    assert found[f"certificate {tmp_path}/cert.pem"][0][0] == "error"


def test_a_missing_credential_and_a_redis_that_cannot_work_are_errors(
    tmp_path: Path, provider_url: str
) -> None:
    """The provider is then not asked; the rest is examined."""
    server = ValkeyProcess("--cluster-enabled", "yes")
    server.start()
    try:
        code, found = findings(config_of(tmp_path, provider_url, server.url), ONE_KEY=None)
    finally:
        server.close()

    assert code == 1
    assert "the environment variable ONE_KEY is not set" in found["provider one"][0][1]
    assert "provider one (openai)" not in found
    assert found["redis"][0][0] == "error"
    assert "cluster mode" in found["redis"][0][1]


def test_entries_in_sql_are_checked_with_their_credentials(
    tmp_path: Path, provider_url: str, valkey_url: str
) -> None:
    """What is left out is a warning; providers in force are asked as the file's are."""
    path = config_of(tmp_path, provider_url, valkey_url)
    copy_migrated(tmp_path / "data")
    wire = json.dumps({"openai": {"base_url": f"{provider_url}/v1"}, "api_key_env": "TWO_API_KEY"})
    lost = wire.replace("TWO_API_KEY", "LOST_API_KEY")
    rows = [("provider", "two", wire), ("provider", "lost", lost), ("model", "m", "{}")]
    with closing(sqlite3.connect(tmp_path / "data" / "capio.db")) as database, database:
        insert = "insert into catalogue_entries values (?, ?, ?, 1, 1)"
        database.executemany(insert, rows)

    code, found = findings(path, ONE_KEY=GOOD, TWO_API_KEY=GOOD, LOST_API_KEY=None)

    assert code == 0
    assert [state for state, _ in found["catalogue in SQL"]] == ["warning", "warning"]
    assert "providers.lost.api_key_env: " in found["catalogue in SQL"][0][1]
    assert "models.m: the configuration file has an entry" in found["catalogue in SQL"][1][1]
    assert "the credential is accepted" in found["provider two (openai)"][0][1]


def test_lines_for_people_have_the_remedy_below(tmp_path: Path, provider_url: str) -> None:
    """Without `--json`; no credential is printed."""
    path = config_of(tmp_path, provider_url, "embedded")

    result = CliRunner().invoke(
        main, ["doctor", "--config", str(path)], env={"ONE_KEY": "sk-wrong"}
    )

    assert "ERROR    provider one (openai): the credential is refused" in result.stdout
    assert "\n         -> check api_key_env" in result.stdout
    assert "redis: embedded" in result.stdout
    assert "sk-wrong" not in result.output
