"""A worker's limiter and ledger over a real Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.metering import MeteringWorld


@pytest.fixture
async def world(valkey_url: str, tmp_path: Path) -> AsyncIterator[MeteringWorld]:
    """Started; with a prefix of its own."""
    world = MeteringWorld(valkey_url, tmp_path)
    await world.worker.start()
    yield world
    await world.close()
