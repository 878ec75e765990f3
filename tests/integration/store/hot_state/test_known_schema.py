"""What Redis remembers of SQL's schema, for each database."""

from __future__ import annotations

import msgspec
import pytest

from gateway.settings import Redis, Secrets, Settings, Sql
from gateway.store.hot_state.known_schema import KnownSchema
from tests.support.valkey import ValkeyProcess

pytestmark = pytest.mark.redis


async def test_revision_is_remembered_for_its_database(valkey: ValkeyProcess) -> None:
    """Another database is unknown; so is everything without Redis, which is no error."""
    settings = Settings(redis=Redis(url=valkey.url), sql=Sql(url="postgresql://a@h/one"))
    other = msgspec.structs.replace(settings, sql=Sql(url="postgresql://a@h/two"))
    one, two = KnownSchema(settings, Secrets({})), KnownSchema(other, Secrets({}))

    before = await one.recall()
    await one.remember("0007")
    found = await one.recall(), await two.recall()
    valkey.kill()

    assert before is None
    assert found == ("0007", None)
    assert await one.recall() is None
