"""Whether the database was available when it was last used."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Server, Settings, Sql
from gateway.store.sql.database import Database


async def test_database_that_is_away_is_noted(tmp_path: Path) -> None:
    """Until a transaction succeeds again; an error of what a block does is none of the database."""
    away = Database(Settings(sql=Sql(url=f"postgresql://nobody@/none?host={tmp_path}")))
    assert away.is_available

    with pytest.raises(GatewayError):
        await away.ping()

    assert not away.is_available
    await away.aclose()


async def test_database_that_responds_again_is_noted(tmp_path: Path) -> None:
    """A ping is enough."""
    database = Database(Settings(server=Server(data_dir=str(tmp_path))))
    database.is_available = False

    await database.ping()

    assert database.is_available
    with pytest.raises(GatewayError):
        async with database.read():
            raise GatewayError(ErrorKind.NO_CREDIT, "No credit.")
    assert database.is_available
    await database.aclose()
