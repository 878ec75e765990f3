"""Commands know the models of SQL, as workers do."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.support.postgres import copy_migrated

CONFIG = """
[server]
data_dir = "DATA"
[[providers]]
name = "one"
openai = { base_url = "https://one.example/v1" }
[[models]]
name = "small"
deployments = [{ provider = "one", model = "s" }]
"""
MODEL = json.dumps({"deployments": [{"provider": "one", "model": "l"}], "aliases": ["l"]})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "capio.toml"
    path.write_text(CONFIG.replace("DATA", str(tmp_path / "data")))
    return path


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--config", str(config)])


def names(config: Path) -> list[str]:
    return [each["name"] for each in json.loads(run(config, "models", "list", "--json").stdout)]


def test_models_of_sql_are_listed_and_allowed_for_keys(config: Path, tmp_path: Path) -> None:
    """Before the first start there is no database, and only the file's models."""
    assert names(config) == ["small"]
    copy_migrated(tmp_path / "data")
    with closing(sqlite3.connect(tmp_path / "data" / "capio.db")) as database, database:
        insert = "insert into catalogue_entries values ('model', ?, ?, 1, 1)"
        database.executemany(insert, [("large", MODEL), ("broken", "{}")])

    assert names(config) == ["small", "large"]


def test_file_alone_is_used_if_sql_is_unavailable(config: Path, tmp_path: Path) -> None:
    """With a warning."""
    url = f"postgresql://capio@/none?host={tmp_path}"
    config.write_text(f'{config.read_text()}\n[sql]\nurl = "{url}"\n')

    result = run(config, "models", "list", "--json")

    assert [each["name"] for each in json.loads(result.stdout)] == ["small"]
    assert "Warning: without the providers and models in SQL" in result.stderr
