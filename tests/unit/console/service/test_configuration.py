"""The settings in force next to the configuration file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.console.service.configuration import ConfigLine, config_lines, read_file
from gateway.settings import Redis, Settings, Sql, parse

FILE = """
[server]
port = 9000

[[providers]]
name = "p"
headers = { x-secret = "hunter2" }
[providers.openai]
base_url = "http://127.0.0.1:9/v1"

[[models]]
name = "kimi"
prices = { input = "1", output = "2" }
deployments = [{ provider = "p", model = "m" }]

[[models]]
name = "glm"
prices = { input = "1", output = "2" }
deployments = [{ provider = "p", model = "m" }]
"""


def lines(settings: Settings, path: Path | None) -> dict[str, ConfigLine]:
    """The lines by name."""
    loaded = None if path is None else read_file(path).loaded
    return {line.name: line for line in config_lines(settings, loaded)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "capio.toml"
    found.write_text(FILE)
    return found


def test_settings_that_differ_from_the_file_are_marked(path: Path) -> None:
    """Prices that were not reloaded, a port that needs a restart; the order of models is none."""
    settings = parse(FILE)
    in_force = msgspec.structs.replace(
        settings,
        models=settings.models[::-1],
        server=msgspec.structs.replace(settings.server, port=8080),
    )
    assert [name for name, line in lines(in_force, path).items() if line.differs] == ["server.port"]

    path.write_text(FILE.replace('input = "1"', 'input = "3"', 1))
    found = lines(in_force, path)
    line = found["models.kimi.prices.input"]
    assert (line.value, line.in_file, line.source) == ('"1"', '"3"', "file")
    assert [name for name, line in found.items() if line.differs] == [
        "server.port",
        "models.kimi.prices.input",
    ]
    assert (found["server.port"].value, found["server.port"].in_file) == ("8080", "9000")


def test_models_that_only_one_side_has_differ(path: Path) -> None:
    """Each of their settings, with nothing on the other side."""
    settings = parse(FILE)
    fewer = msgspec.structs.replace(settings, models=settings.models[:1])

    added = lines(fewer, path)["models.glm.name"]
    path.write_text(FILE.rpartition("[[models]]")[0])
    removed = lines(settings, path)["models.glm.name"]

    assert (added.value, added.in_file) == (None, '"glm"')
    assert (removed.value, removed.in_file) == ('"glm"', None)


def test_the_environment_overrides_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable's name; a value equal to that in force does not differ."""
    monkeypatch.setenv("CAPIO_SERVER__PORT", "9100")
    settings = parse(FILE)
    in_force = msgspec.structs.replace(
        settings, server=msgspec.structs.replace(settings.server, port=9100)
    )

    line = lines(in_force, path)["server.port"]

    assert (line.differs, line.source, line.variable) == (
        False,
        "environment",
        "CAPIO_SERVER__PORT",
    )


def test_without_a_file_nothing_differs_and_secrets_are_hidden() -> None:
    """The user of a store's URL and values of headers are not shown."""
    settings = msgspec.structs.replace(
        parse(FILE),
        redis=Redis(url="rediss://user:hunter2@redis.test:6379/0"),
        sql=Sql(url="postgresql://capio:hunter2@sql.test/capio", pool_size=7),
    )

    found = lines(settings, None)

    assert found["redis.url"].value == '"rediss://…@redis.test:6379/0"'
    assert (found["sql.pool_size"].value, found["sql.pool_size"].is_set) == ("7", True)
    assert found["server.max_connections"].is_set is False
    assert not any(line.differs for line in found.values())
    assert "hunter2" not in str(found)


def test_a_broken_file_is_described(path: Path) -> None:
    """All its errors, or that it cannot be read."""
    path.write_text(FILE.replace("9000", "-1").replace('name = "glm"', 'name = "kimi"'))
    broken = read_file(path)
    missing = read_file(path.with_name("gone.toml"))

    assert broken.loaded is None
    assert len(broken.errors) == 2
    assert any("server.port" in error for error in broken.errors)
    assert "cannot be read" in missing.errors[0]
