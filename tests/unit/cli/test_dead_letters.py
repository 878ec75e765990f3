"""`capio dead-letters`: usage that was set aside is listed, and sent to the ledger again."""

import json
import uuid
from pathlib import Path

import msgspec
import pytest
import redis
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.config import SHORTEST
from gateway.store.hot_state.redis_schema import RedisKeys
from gateway.store.usage.sender import dead_letter, dead_letter_key
from tests.support.postgres import copy_migrated
from tests.support.usage import usage_event

pytestmark = pytest.mark.redis


def test_letters_are_listed_and_requeued_once(valkey_url: str, tmp_path: Path) -> None:
    """A requeued event waits in the stream of its account, and its letter is gone."""
    prefix = f"t{uuid.uuid4().hex}:"
    copy_migrated(tmp_path / "data")
    config = tmp_path / "capio.toml"
    config.write_text(
        f'{SHORTEST}\n[server]\ndata_dir = "{tmp_path}/data"\n'
        f'[redis]\nurl = "{valkey_url}"\nkey_prefix = "{prefix}"\n'
    )
    server = redis.Redis.from_url(valkey_url)
    line = msgspec.json.encode(usage_event("req_7"))
    command = dead_letter(dead_letter_key(prefix), line, "no such table")
    letter = server.execute_command(*command)  # type: ignore[no-untyped-call]

    def capio(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["dead-letters", *arguments, "--config", str(config)])
        return result.exit_code, result.output

    _, listed = capio("list", "--json")
    (found,) = json.loads(listed)
    assert (found["id"], found["request_id"], found["reason"]) == (
        letter.decode(),
        "req_7",
        "no such table",
    )
    assert capio("requeue", found["id"])[0] == 0
    assert server.xlen(RedisKeys(prefix).of("acct_1").usage) == 1
    assert json.loads(capio("list", "--json")[1]) == []
    code, said = capio("requeue", found["id"])
    assert (code != 0, found["id"] in said) == (True, True)
