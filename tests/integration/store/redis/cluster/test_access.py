"""A cluster with a user of ACL, and one that wants TLS."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from gateway.store.redis.address import RedisAddress, parse_address
from gateway.store.redis.client import RedisLimits, RedisState
from gateway.store.redis.cluster.client import ClusterRedis
from gateway.store.redis.cluster.kinds import cold_client, detect, subscription
from gateway.store.redis.cluster.survey import survey_cluster
from tests.support.diary import Diary
from tests.support.redis_cluster import RedisCluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

RULES = "~capio:* &capio:* +@all -@dangerous +info +cluster|slots +cluster|info"
"""As in docs/operations.md."""
REDIS = shutil.which("redis-server")
"""The packaged Valkey has no TLS."""


@pytest.fixture
def guarded() -> Iterator[RedisCluster]:
    """Return a cluster with a user for the gateway."""
    cluster = RedisCluster("--user", "capio", "on", ">secret", *RULES.split(), replicas=False)
    yield cluster
    cluster.close()


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[RedisCluster]:
    """Return a cluster with TLS for clients and among its servers."""
    if REDIS is None:
        pytest.skip("no redis-server, which has TLS")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    cluster = RedisCluster(
        *("--tls-cluster", "yes", "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(tmp_path / "cert.pem")),
        *("--tls-key-file", str(tmp_path / "key.pem")),
        *("--tls-ca-cert-file", str(tmp_path / "ca.pem")),
        replicas=False,
        program=REDIS,
    )
    yield cluster
    cluster.close()


async def use(target: RedisAddress, cluster: RedisCluster) -> None:
    """Store keys on all masters, publish, and read with redis-py."""
    assert target.may_be_cluster
    target = await detect(target)
    redis = ClusterRedis(target, RedisLimits(command_timeout_s=2.0))
    await redis.start()
    diary = Diary()
    subscribed = subscription(redis, target, "capio:news", diary)
    await subscribed.start()
    cold = cold_client(target)
    try:
        assert redis.state is RedisState.READY
        for number in range(10):
            await redis.command("SET", f"capio:{number}", number)
        await wait_until(lambda: "subscribed" in diary.entries)
        await redis.command("PUBLISH", "capio:news", "message")
        await wait_until(lambda: "message" in diary.entries)
        assert [await cold.get(f"capio:{number}") for number in range(10)] == [
            b"%d" % number for number in range(10)
        ]
        assert {server("DBSIZE") > 0 for server in cluster.masters} == {True}
        assert len((await survey_cluster(target)).masters) == 3
    finally:
        await cold.aclose()
        await subscribed.aclose()
        await redis.aclose()


async def test_documented_rules_suffice_for_a_user(guarded: RedisCluster) -> None:
    """The kind, commands, scripts' redirections, the topology and the survey."""
    url = guarded.plain_url.replace("//", "//capio@")
    await use(parse_address(url, password="secret"), guarded)


async def test_servers_are_verified_by_their_certificates(
    encrypted: RedisCluster, tmp_path: Path
) -> None:
    """Every master is reached by the port that it announces for TLS."""
    seed = encrypted.servers[0].tls_port
    url = f"rediss://127.0.0.1:{seed}?ssl_ca_certs={tmp_path / 'ca.pem'}"

    await use(parse_address(url), encrypted)
    stranger = ClusterRedis(
        parse_address(f"rediss+cluster://127.0.0.1:{seed}"), RedisLimits(command_timeout_s=0.2)
    )
    await stranger.start()
    state = stranger.state
    await stranger.aclose()

    assert state is RedisState.CONNECTING
