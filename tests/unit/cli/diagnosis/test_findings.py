"""What counts as a difference of clocks, and what a certificate's dates mean."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
import trustme

from gateway.cli.diagnosis.findings import State, clock
from gateway.cli.diagnosis.machine import check_machine
from gateway.settings import Server, Settings


@pytest.mark.parametrize(
    ("theirs", "state"),
    [
        (100.0, State.OK),
        (98.1, State.OK),
        (103.0, State.OK),
        (97.9, State.WARNING),
        (103.6, State.WARNING),
    ],
)
def test_clock_is_judged_beyond_the_round_trip(theirs: float, state: State) -> None:
    """Read between 100.0 and 101.5, so that the round trip is no difference."""
    finding = clock("redis", theirs, 100.0, 101.5)

    assert finding.state is state
    assert (finding.remedy is None) is (state is State.OK)


@pytest.mark.parametrize(("days", "state"), [(-3, State.ERROR), (5, State.WARNING), (90, State.OK)])
def test_certificate_is_judged_by_its_dates(tmp_path: Path, days: int, state: State) -> None:
    """An expired one is an error, one that expires within two weeks a warning."""
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    issued = trustme.CA().issue_cert("gateway.example", not_after=until)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    server = Server(data_dir=str(tmp_path), tls_cert_file=str(cert), tls_key_file=str(key))

    found = {each.subject: each for each in check_machine(Settings(server=server))}

    assert found[f"certificate {cert}"].state is state
    assert found[f"data directory {tmp_path}"].state is State.OK


def test_data_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    """And says what to set."""
    path = tmp_path / "file"
    path.touch()

    found = {
        each.subject: each for each in check_machine(Settings(server=Server(data_dir=str(path))))
    }

    assert found[f"data directory {path}"].state is State.ERROR


@pytest.mark.parametrize(
    ("host", "port", "trusted", "state"),
    [
        ("127.0.0.1", 8081, [], State.OK),
        ("::1", 8081, [], State.OK),
        ("0.0.0.0", 8081, ["10.0.0.0/8"], State.OK),
        ("0.0.0.0", 8081, [], State.WARNING),
        ("127.0.0.1", 81, [], State.ERROR),
    ],
)
def test_direct_port_is_for_a_load_balancer(
    monkeypatch: pytest.MonkeyPatch, host: str, port: int, trusted: list[str], state: State
) -> None:
    """Its address must be known, and the port one that the user may open."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    server = Server(host=host, direct_port=port, trusted_proxies=trusted)
    found = {each.subject: each for each in check_machine(Settings(server=server))}

    assert found[f"server.direct_port {port}"].state is state
