"""`capio status` on a running gateway."""

from __future__ import annotations

import json

import pytest

from gateway import __version__
from tests.support.service import Service

pytestmark = pytest.mark.process


def test_status_shows_the_workers_and_the_ledger(gateway: Service) -> None:
    """Every worker serves, and its loop ran lately; for people and as JSON."""
    found = json.loads(gateway.process.capio("status", "--json"))

    assert (found["version"], found["pid"], found["draining"]) == (
        __version__,
        gateway.process.pid,
        False,
    )
    assert [each["phase"] for each in found["workers"]] == ["serve", "serve"]
    assert sorted(each["pid"] for each in found["workers"]) == sorted(gateway.process.workers())
    assert all(each["silent_s"] < 30 for each in found["workers"])
    assert found["ledger_lag_s"] is not None

    table = gateway.process.capio("status")
    assert "in flight calls" in table
    assert "serve" in table
