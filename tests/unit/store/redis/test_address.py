"""Redis addresses."""

from __future__ import annotations

import ssl

import pytest

from gateway.store.redis.address import Member, parse_address
from gateway.store.redis.cluster.kinds import cold_client


@pytest.mark.parametrize(
    ("url", "label", "username", "password", "db"),
    [
        ("redis://", "localhost:6379", None, None, 0),
        ("redis://cache", "cache:6379", None, None, 0),
        ("redis://cache:7000/3", "cache:7000", None, None, 3),
        ("redis://:p%40ss@cache", "cache:6379", None, "p@ss", 0),
        ("redis://user:pass@cache", "cache:6379", "user", "pass", 0),
        ("redis://[::1]:7000", "[::1]:7000", None, None, 0),
        ("valkey://user@cache:7000/3", "cache:7000", "user", None, 3),
        ("redis+sentinel://a,b:7000/main", "main of Sentinels a:26379,b:7000", None, None, 0),
        ("redis+cluster://a,b:7000", "cluster of a:6379,b:7000", None, None, 0),
        (
            "valkey+cluster://user@[2001:db8::1]:7000/0",
            "cluster of [2001:db8::1]:7000",
            "user",
            None,
            0,
        ),
        ("valkey+sentinel://user@a/main/2", "main of Sentinels a:26379", "user", None, 2),
        ("unix:///run/v.sock", "/run/v.sock", None, None, 0),
        ("unix://:pass@/run/v.sock?db=2", "/run/v.sock", None, "pass", 2),
    ],
)
def test_read_target_url_gives_its_parts(
    url: str, label: str, username: str | None, password: str | None, db: int
) -> None:
    """Every form of address is read, escapes undone."""
    target = parse_address(url)

    assert (target.label, target.username, target.password, target.db) == (
        label, username, password, db,
    )  # fmt: skip
    assert target.tls is None


def test_read_target_settings_password_counts_before_the_urls() -> None:
    """The password from the settings wins."""
    assert parse_address("redis://:url@h", password="settings").password == "settings"


def test_read_target_rediss_verifies_unless_told_otherwise() -> None:
    """TLS checks certificate and name by default."""
    strict = parse_address("valkeys://h").tls
    lax = parse_address("rediss://h?ssl_cert_reqs=none").tls

    assert strict is not None and lax is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)


def test_read_target_sentinels_have_their_own_credential_and_the_same_tls() -> None:
    """The Sentinels' user and password are not those of the server."""
    target = parse_address(
        "rediss+sentinel://user@a/main?ssl_cert_reqs=none&sentinel_username=watcher",
        password="p1",
        sentinel_password="p2",
    )

    assert target.sentinels is not None and target.tls is not None
    assert (target.username, target.password) == ("user", "p1")
    assert (target.sentinels.username, target.sentinels.password) == ("watcher", "p2")
    assert target.sentinels.options == {"ssl": True, "ssl_cert_reqs": "none"}
    assert "p2" not in repr(target.sentinels)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:secret@a",
        "redis://:secret@h?sentinel_username=x",
        "http://secret@h",
        "h:6379",
        "redis://:secret@h?colour=red",
        "redis://h?ssl_cert_reqs=none",
        "redis://h?db=x",
    ],
)
def test_read_target_mistakes_raise_without_repeating_the_url(url: str) -> None:
    """A malformed address is refused; the error does not show its password."""
    with pytest.raises(ValueError) as caught:
        parse_address(url)

    assert "secret" not in str(caught.value)


def test_target_repr_shows_no_password() -> None:
    """A target can be logged."""
    assert repr(parse_address("redis://user:secret@h/1")) == "RedisAddress(h:6379, db=1, tls=False)"


def test_cold_client_takes_over_every_option() -> None:
    """A redis-py client of the target logs in as the bus does."""
    client = cold_client(parse_address("rediss://user:pass@h:7000/4?ssl_cert_reqs=none"))

    options = client.connection_pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("h", 7000, 4)
    assert (options["username"], options["password"]) == ("user", "pass")
    assert options["ssl_cert_reqs"] == "none"


def test_server_of_a_cluster_has_its_credential_and_tls() -> None:
    """A master of it, and any server."""
    cluster = parse_address("rediss+cluster://user@a,b?ssl_cert_reqs=none", password="p1")

    master, other = cluster.node("10.0.0.1", 7000), cluster.seed("b", 6379)

    assert (master.label, other.label) == ("10.0.0.1:7000", "b:6379")
    assert (master.username, master.password, master.tls) == ("user", "p1", cluster.tls)
    assert cluster.tls is not None
    assert (master.member, other.member) == (Member.MASTER, Member.ANY)
