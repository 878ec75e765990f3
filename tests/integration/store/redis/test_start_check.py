"""Servers that cannot work are refused at the start; what may lose data is logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from gateway.server.start import run
from gateway.server.supervisor import Supervisor
from gateway.settings import Redis, Secrets, Server, Settings
from gateway.store.redis.address import parse_address, redis_address
from gateway.store.redis.client import PipelinedRedis, RedisLimits, RedisState
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.redis.connection import RedisRefusedError
from gateway.store.redis.start_check import check_redis
from tests.support.gateway_process import free_port
from tests.support.valkey import ValkeyProcess

pytestmark = pytest.mark.redis

RULES = ("~capio:*", "&capio:*", "+@all", "-@dangerous")


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[ValkeyProcess]:
    """A Valkey with the arguments of the test's parameter."""
    started = ValkeyProcess(*request.param)
    started.start()
    yield started
    started.close()


def settings_for(url: str, tmp_path: Path | None = None) -> Settings:
    return Settings(server=Server(data_dir=str(tmp_path or "data")), redis=Redis(url=url))


def warned(caplog: pytest.LogCaptureFixture) -> list[tuple[str, object]]:
    return [
        (record.getMessage(), getattr(record, "problem", getattr(record, "remedy", None)))
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


@pytest.mark.parametrize(
    ("server", "error"),
    [
        (["--cluster-enabled", "yes"], "cluster mode"),
        (["--replicaof", "127.0.0.1", "1"], "read-only replica"),
        (["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], "allkeys-lru"),
    ],
    indirect=["server"],
)
async def test_unusable_server_is_refused_by_the_check_and_by_the_bus(
    server: ValkeyProcess, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The bus does not become ready on it either, and its log has the reason."""
    with pytest.raises(RedisRefusedError, match=f"redis.url: .*{error}.*; "):
        await check_redis(settings_for(server.url), Secrets({}))

    bus = PipelinedRedis(parse_address(server.url), RedisLimits(failures_to_open=1))
    await bus.start()
    assert bus.state is RedisState.OPEN
    await bus.aclose()
    assert any(error in str(getattr(record, "reason", "")) for record in caplog.records)


@pytest.mark.parametrize("server", [["--cluster-enabled", "yes"]], indirect=True)
def test_start_is_refused_with_exit_code_1(
    server: ValkeyProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before anything is migrated or any worker starts."""
    never = cast("Supervisor", None)

    assert run(settings_for(server.url, tmp_path), never) == 1

    assert [record.getMessage() for record in caplog.records] == ["start_refused"]
    assert list(tmp_path.iterdir()) == []


def test_start_without_a_writable_data_directory_says_whose_it_must_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As with a directory of root that is mounted into a container."""
    (tmp_path / "file").touch()
    settings = Settings(server=Server(data_dir=str(tmp_path / "file" / "data")))

    assert run(settings, cast("Supervisor", None)) == 1

    (record,) = caplog.records
    assert record.getMessage() == "start_refused"
    assert (
        f"{settings.server.data_dir} cannot be written; give it to user"
        in record.__dict__["reason"]
    )


@pytest.mark.parametrize(
    ("server", "problems"),
    [
        (["--appendonly", "yes"], []),
        ([], ["neither an append-only file"]),
        (
            ["--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"],
            ["idempotency records"],
        ),
    ],
    indirect=["server"],
)
async def test_usable_server_is_accepted_with_warnings(
    server: ValkeyProcess, problems: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Each with its problem and remedy."""
    await check_redis(settings_for(server.url), Secrets({}))

    found = warned(caplog)
    assert [event for event, _ in found] == ["redis_durability_reduced"] * len(problems)
    for (_, problem), expected in zip(found, problems, strict=True):
        assert expected in str(problem)


async def test_unavailable_server_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    """The gateway starts while Redis is away."""
    await check_redis(settings_for(f"redis://127.0.0.1:{free_port()}"), Secrets({}))

    assert [event for event, _ in warned(caplog)] == ["redis_check_failed"]


@pytest.mark.parametrize("may_use_info", [True, False])
async def test_user_of_acl_logs_in_everywhere(
    may_use_info: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The rules of the documentation suffice; without INFO, memory is not checked."""
    rules = (*RULES, "+info") if may_use_info else RULES
    server = ValkeyProcess.with_user("capio", "s3cret", *rules)
    try:
        server.start()
        settings = settings_for(server.url.replace("unix://", "unix://capio@"))
        secrets = Secrets({}, redis_password="s3cret")
        await check_redis(settings, secrets)
        assert ("redis_check_skipped" in [event for event, _ in warned(caplog)]) is not may_use_info

        target = redis_address(settings, secrets, "test")
        bus = PipelinedRedis(target, RedisLimits(command_timeout_s=5))
        await bus.start()
        assert await bus.command("SET", "capio:k", "v") == b"OK"
        await bus.aclose()
        client = cold_client(target)
        assert await client.get("capio:k") == b"v"
        await client.aclose()
    finally:
        server.close()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--cluster-enabled", "yes"], "cluster mode"),
        (["--replicaof", "127.0.0.1", "1"], "read-only replica"),
    ],
)
async def test_unusable_server_is_refused_without_the_right_to_info(
    arguments: list[str], error: str
) -> None:
    """A cluster that is taken for a single server would book nothing."""
    user = ("--user", "capio", "on", ">s3cret", *RULES, "--user", "default", "off")
    server = ValkeyProcess(*user, *arguments, password="capio s3cret")
    try:
        server.start()
        settings = settings_for(server.url.replace("unix://", "unix://capio@"))
        with pytest.raises(RedisRefusedError, match=error):
            await check_redis(settings, Secrets({}, redis_password="s3cret"))
    finally:
        server.close()
