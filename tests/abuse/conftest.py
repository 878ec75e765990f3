"""The gateways under attack, started when the first test asks for one."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

import pytest
import trustme

from tests.abuse.service import AbusedGateway
from tests.support.raw_upstream import RawUpstream, Slot

SLOTS = 200
"""More than all tests take together: none is used twice, so no breaker or hold is inherited."""


@pytest.fixture(scope="session")
def hostile_upstream() -> Iterator[RawUpstream]:
    """The upstream of all gateways under attack."""
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    upstream = RawUpstream(SLOTS).start()
    yield upstream
    upstream.stop()


def _take(upstream: RawUpstream, count: int) -> list[Slot]:
    return [upstream.take() for _ in range(count)]


@pytest.fixture(scope="session")
def abused(
    tmp_path_factory: pytest.TempPathFactory, hostile_upstream: RawUpstream
) -> Iterator[AbusedGateway]:
    """One worker, so that what freezes it freezes everybody; else the defaults."""
    home = tmp_path_factory.mktemp("abused")
    yield from _running(AbusedGateway(home, hostile_upstream, _take(hostile_upstream, 160)))


@pytest.fixture(scope="session")
def short_lease(
    tmp_path_factory: pytest.TempPathFactory, hostile_upstream: RawUpstream
) -> Iterator[AbusedGateway]:
    """Two workers whose calls count as abandoned after three seconds of silence."""
    home = tmp_path_factory.mktemp("short-lease")
    yield from _running(
        AbusedGateway(
            home,
            hostile_upstream,
            _take(hostile_upstream, 20),
            workers=2,
            extra="[money]\nlease_s = 3\nrenew_s = 0.5\n",
        )
    )


@pytest.fixture(scope="session")
def narrow(
    tmp_path_factory: pytest.TempPathFactory, hostile_upstream: RawUpstream
) -> Iterator[AbusedGateway]:
    """One worker with fewer places than by default, for half-sent bodies to take them all."""
    home = tmp_path_factory.mktemp("narrow")
    yield from _running(
        AbusedGateway(
            home, hostile_upstream, _take(hostile_upstream, 10), server="max_in_flight = 1200\n"
        )
    )


@pytest.fixture(scope="session")
def over_tls(
    tmp_path_factory: pytest.TempPathFactory, hostile_upstream: RawUpstream
) -> Iterator[AbusedGateway]:
    """A gateway that speaks TLS itself."""
    home = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(str(home / "key.pem"))
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(str(home / "cert.pem"), append=True)
    server = f'tls_cert_file = "{home / "cert.pem"}"\ntls_key_file = "{home / "key.pem"}"\n'
    gateway = AbusedGateway(home, hostile_upstream, _take(hostile_upstream, 2), server=server)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    gateway.process.tls = context
    yield from _running(gateway)


def _running(gateway: AbusedGateway) -> Iterator[AbusedGateway]:
    try:
        gateway.process.start()
        yield gateway
    finally:
        gateway.process.stop()
