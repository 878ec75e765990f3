"""A whole gateway on a Redis Cluster whose slots move and whose master is killed, under load."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis.crc import key_slot

from gateway.store.hot_state.redis_schema import RedisKeys
from tests.support.bodies import request
from tests.support.raw_client import Connection
from tests.support.redis_cluster import RedisCluster
from tests.support.service import OPENAI_MODEL, DemoProcess, Key, Service
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

PATH = "/v1/chat/completions"
KEYS = 6
UNAVAILABLE = 503


class Load:
    """Clients that call without a pause, and what they received."""

    def __init__(self, service: Service, keys: list[Key]) -> None:
        self._service = service
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(key,)) for key in keys]
        self.whole: dict[str, str] = {}
        """Request id of each response -> id of its key."""
        self.statuses: Counter[int] = Counter()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, calls: int) -> None:
        """Wait until as many calls more were served."""
        wanted = len(self.whole) + calls
        wait_until_sync(lambda: len(self.whole) >= wanted, 30)

    def _call(self, key: Key) -> None:
        while not self._stop.is_set():
            with Connection(self._service.port) as connection:
                response = connection.request(
                    "POST", PATH, request(PATH, OPENAI_MODEL), x_api_key=key.raw
                )
            self.statuses[response.status] += 1
            if response.status == 200:
                self.whole[response.headers["x-request-id"]] = key.id
            time.sleep(0.01)


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    """Return three masters with a replica each."""
    started = RedisCluster()
    yield started
    started.close()


@pytest.fixture
def service(tmp_path: Path, demo_upstream: DemoProcess, cluster: RedisCluster) -> Iterator[Service]:
    """Return a gateway with two workers, a ledger writer and a console, started before Redis."""
    extra = f'[redis]\nurl = "{cluster.plain_url}"\ncommand_timeout_ms = 400\n'
    made = Service(tmp_path, demo_upstream, extra=extra)
    for server in cluster.servers:
        server.process.kill()
    made.start()
    assert readiness(made)["redis"] != "ready"
    for server in cluster.servers:
        server.process.start()
    wait_until_sync(lambda: readiness(made)["redis"] == "ready", 30)
    yield made
    made.stop()


def readiness(service: Service) -> dict[str, str]:
    """Return what a worker says; the others are ready at about the same time."""
    with Connection(service.port) as connection:
        found: dict[str, str] = json.loads(connection.request("GET", "/readyz").body)
        return found


def booked(service: Service) -> dict[str, tuple[str, int]]:
    """Return what SQL has: request id -> key, and how many charges."""
    query = (
        "select u.request_id, u.key_id, (select count(*) from ledger_entries l where"
        " l.request_id = u.request_id and l.kind = 'charge') from usage_events u"
        " where u.outcome = 'completed'"
    )
    path = service.process.data_dir / "capio.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
        return {name: (key, charges) for name, key, charges in database.execute(query)}


def move_all_slots(cluster: RedisCluster, service: Service) -> None:
    """Move the shards that have accounts to other masters."""
    path = service.process.data_dir / "capio.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
        accounts = [name for (name,) in database.execute("select id from accounts")]
    names = RedisKeys("capio:")
    for shard in sorted({names.of(name).shard for name in accounts}):
        key = names.shards[shard].calls
        old = cluster.owner_of(key)
        new = next(each for each in cluster.masters if each is not old)
        cluster.move(key_slot(key), old, new, pause_s=0.02)


def status_of(service: Service, key: Key) -> int:
    with Connection(service.port) as connection:
        return connection.request(
            "POST", PATH, request(PATH, OPENAI_MODEL), x_api_key=key.raw
        ).status


def test_every_call_is_charged_once_through_reshard_and_failover(
    service: Service, cluster: RedisCluster
) -> None:
    """
    The URL is a plain one, and Redis comes after the gateway. A key is revoked meanwhile;
    operators' commands work with the cluster as well.
    """
    keys = [service.new_account_key(f"account {number}") for number in range(KEYS)]
    revoked = keys.pop()
    assert status_of(service, revoked) == 200
    with Load(service, keys) as load:
        load.wait_for(50)
        move_all_slots(cluster, service)
        load.wait_for(50)
        service.process.capio("keys", "disable", revoked.id)
        after_revocation = status_of(service, revoked)
        lost = cluster.owner_of(RedisKeys("capio:").shards[0].calls)
        lost.process.kill()
        load.wait_for(100)
        wait_until_sync(
            lambda: cluster.owner_of(RedisKeys("capio:").shards[0].calls) is not lost, 20
        )
        load.wait_for(100)
    expected = {name: (key_id, 1) for name, key_id in load.whole.items()}
    wait_until_sync(lambda: expected.items() <= booked(service).items(), 30)

    found = booked(service)
    extra = [name for name, (key_id, _) in found.items() if name not in expected]
    assert after_revocation in (401, 403)
    assert set(load.statuses) <= {200, UNAVAILABLE}
    assert len(extra) == 1  # the first call of the key that was revoked
    assert "no differences" in service.process.capio("reconcile")
    findings = json.loads(service.process.capio("doctor", "--json"))
    assert any("a cluster of 3 masters" in str(each) for each in findings)
    assert service.process.capio("dead-letters", "list", "--json").strip() in ("[]", "")
    service.process.capio("health")
    service.process.capio("status")
