"""`capio keys`: a key is shown once, and changes reach SQL and Redis."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.config import SHORTEST
from gateway.core import api_keys
from gateway.server.embedded_valkey import EmbeddedValkey
from gateway.store.keys.entry import decode_entry, entry_name
from tests.support.postgres import copy_migrated

Capio = Callable[..., Result]
PREFIX = "sk-capio-live-"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose stores live in the test's own directory."""
    copy_migrated(tmp_path / "data")
    path = tmp_path / "test.toml"
    path.write_text(f'{SHORTEST}\n[server]\ndata_dir = "{tmp_path}/data"\n', "utf-8")
    return path


@pytest.fixture
def capio(config: Path) -> Capio:
    """Run a command with that configuration; the account acme exists."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--config", str(config)])

    assert run("accounts", "create", "acme").exit_code == 0
    return run


def make(capio: Capio, *arguments: str) -> dict[str, object]:
    result = capio("keys", "create", "--account", "acme", "--name", "ci", "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    made: dict[str, object] = json.loads(result.stdout)
    return made


def test_keys_create_shows_the_key_once(capio: Capio, config: Path) -> None:
    """The raw key alone is on standard output; it is neither listed nor stored."""
    result = capio("keys", "create", "--account", "acme", "--name", "ci")

    raw = result.stdout.removesuffix("\n")
    assert result.exit_code == 0
    assert api_keys.well_formed(raw, PREFIX)
    assert "Save this key now: it is not stored and cannot be shown again." in result.stderr
    assert "name        ci\n" in result.stderr
    assert raw not in result.stderr
    assert result.output.startswith(raw)
    assert raw not in capio("keys", "list").stdout
    stored = b"".join(path.read_bytes() for path in (config.parent / "data").glob("capio.db*"))
    assert stored
    assert raw.encode() not in stored


def test_keys_list_shows_state_and_limits(capio: Capio) -> None:
    """Expiry, allowed models and the key's prefix and last four characters are listed."""
    made = make(capio, "--expires", "2030-01-31", "--model", "capio/deepseek-v4-flash")

    (listed,) = json.loads(capio("keys", "list", "--account", "acme", "--json").stdout)

    raw = made.pop("key")
    assert isinstance(raw, str)
    assert api_keys.well_formed(raw, PREFIX)
    assert made["expires_at"] == "2030-01-31T00:00:00Z"
    assert made["models"] == ["deepseek-v4-flash"]
    assert listed == {**made, "key": f"{PREFIX}...{raw[-4:]}"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--account", "nobody"], 1, "Account 'nobody' does not exist."),
        (
            ["--account", "acme", "--model", "deepseek-v4-flsh"],
            2,
            "did you mean deepseek-v4-flash?",
        ),
        (["--account", "acme", "--expires", "never"], 2, "is not a span like 30d"),
        (["--account", "acme", "--expires", "2020-01-01"], 2, "has already passed"),
    ],
)
def test_keys_create_with_wrong_values_makes_none(
    capio: Capio, arguments: list[str], code: int, message: str
) -> None:
    """The error names the value, and no key is created."""
    result = capio("keys", "create", "--name", "ci", *arguments)

    assert result.exit_code == code
    assert message in result.stderr
    assert json.loads(capio("keys", "list", "--json").stdout) == []


def test_keys_create_for_ambiguous_name_asks_for_the_id(capio: Capio) -> None:
    """Account names are not unique; the command does not guess."""
    capio("accounts", "create", "acme")

    result = capio("keys", "create", "--account", "acme", "--name", "ci")

    assert result.exit_code == 1
    assert result.stderr == "Several accounts are named 'acme'. Use the account's id.\n"


def test_keys_states_change_until_revoked(capio: Capio) -> None:
    """Disabling is reversible, revoking is not."""
    key_id = str(make(capio)["id"])

    def state_after(command: str) -> str:
        result = capio("keys", command, key_id)
        assert result.exit_code == 0, result.stderr
        assert "is not running; only the database was updated" in result.stderr
        return str(json.loads(capio("keys", "list", "--json").stdout)[0]["state"])

    assert [state_after(command) for command in ("disable", "enable", "revoke", "revoke")] == [
        "disabled",
        "active",
        "revoked",
        "revoked",
    ]
    refused = capio("keys", "enable", key_id)
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"Key '{key_id}' is revoked and can no longer be changed. Create a new key.\n",
    )


def test_keys_revoke_unknown_key_fails(capio: Capio) -> None:
    """An unknown id is an error."""
    result = capio("keys", "revoke", "key_nope")

    assert (result.exit_code, result.stderr) == (1, "Key 'key_nope' does not exist.\n")


@pytest.mark.redis
def test_keys_revoke_updates_redis(capio: Capio, config: Path, valkey_url: str) -> None:
    """Redis has the revoked key before the command ends."""
    made = make(capio)
    name = f"cli{made['id']}:"
    config.write_text(f'[redis]\nurl = "{valkey_url}"\nkey_prefix = "{name}"\n{config.read_text()}')

    result = capio("keys", "revoke", str(made["id"]))

    digest = api_keys.digest(str(made["key"]))
    with redis.Redis.from_url(valkey_url) as client:
        entry = client.get(entry_name(name, digest))
    assert (result.exit_code, result.stderr) == (0, "")
    assert isinstance(entry, bytes)
    held = decode_entry(entry)
    assert held is not None
    assert held.principal is not None
    assert (held.principal.state, held.version) == ("revoked", 2)


def test_keys_revoke_without_redis_is_no_success(capio: Capio, config: Path) -> None:
    """An unpublished change must be repeated."""
    key_id = str(make(capio)["id"])
    config.write_text(f'[redis]\nurl = "unix://{config.parent}/none.sock"\n{config.read_text()}')

    result = capio("keys", "revoke", key_id)

    assert result.exit_code == 1
    assert f"Key '{key_id}' was changed in the database, but Redis could not be updated" in (
        result.stderr
    )
    assert "until you run the command again.\n" in result.stderr


@pytest.mark.redis
def test_keys_disable_updates_the_running_embedded_store(capio: Capio, config: Path) -> None:
    """The embedded store of a running gateway is found and updated."""
    made = make(capio)
    store = EmbeddedValkey(config.parent / "data")

    try:
        store.start()
        result = capio("keys", "disable", str(made["id"]))
        with redis.Redis.from_url(store.url) as client:
            entry = client.get(entry_name("capio:", api_keys.digest(str(made["key"]))))
    finally:
        store.stop()

    assert (result.exit_code, result.stderr) == (0, "")
    assert isinstance(entry, bytes)
    held = decode_entry(entry)
    assert held is not None
    assert held.principal is not None
    assert held.principal.state == "disabled"
