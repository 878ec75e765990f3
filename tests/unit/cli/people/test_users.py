"""`capio users`: links for people who use the pages, and their state."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.config import SHORTEST
from tests.support.postgres import copy_migrated


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose stores live in the test's own directory."""
    copy_migrated(tmp_path / "data")
    path = tmp_path / "test.toml"
    path.write_text(f'{SHORTEST}\n[server]\ndata_dir = "{tmp_path}/data"\n', "utf-8")
    return path


def users(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["users", *arguments, "--config", str(config)])


def test_links_are_printed_alone(config: Path) -> None:
    """A link for the first operator, and an invitation to an account that exists."""
    made = CliRunner().invoke(main, ["accounts", "create", "acme", "--config", str(config)])
    assert made.exit_code == 0

    for result in (users(config, "setup-link"), users(config, "invite", "--account", "acme")):
        assert result.exit_code == 0
        (line,) = result.stdout.splitlines()
        assert line.startswith("http")
    assert json.loads(users(config, "list", "--json").stdout) == []


@pytest.mark.parametrize(
    "arguments",
    [("link", "ada@example.com"), ("operator", "ada@example.com"), ("disable", "ada@example.com"),
     ("enable", "ada@example.com"), ("invite", "--account", "nobody")],
)  # fmt: skip
def test_people_who_do_not_exist_are_named(config: Path, arguments: tuple[str, ...]) -> None:
    """The error repeats what was asked for, and no link is printed."""
    result = users(config, *arguments)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert arguments[-1] in result.stderr
