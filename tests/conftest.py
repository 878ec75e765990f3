"""What all tests share: hypothesis profiles and a real Valkey."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.postgres import database, postgres, sql_settings
from tests.valkey import ValkeyProcess
from tests.waiting import wait_until, wait_until_sync

__all__ = ["database", "postgres", "sql_settings", "wait_until", "wait_until_sync"]

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=200, derandomize=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The address of one Valkey for the whole run; use a key prefix of your own on it."""
    server = ValkeyProcess()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def valkey() -> Iterator[ValkeyProcess]:
    """A Valkey of the test's own, running, to be killed and paused."""
    server = ValkeyProcess()
    server.start()
    try:
        yield server
    finally:
        server.close()
