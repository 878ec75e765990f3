"""`capio config` prints the effective settings."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.config import SHORTEST


def test_config_prints_values_and_sources(tmp_path: Path) -> None:
    """The environment wins; `--changed` leaves the defaults out."""
    path = tmp_path / "capio.toml"
    path.write_text(f"{SHORTEST}\n[server]\nport = 8000\nhost = '0.0.0.0'\n", "utf-8")
    environ = {"CAPIO_SERVER__PORT": "9000"}

    result = CliRunner().invoke(
        main, ["config", "--config", str(path), "--changed", "--json"], env=environ
    )

    found = {each["path"]: each for each in json.loads(result.stdout)}
    assert found["server.port"] == {
        "path": "server.port",
        "value": "9000",
        "source": "environment",
        "variable": "CAPIO_SERVER__PORT",
    }
    assert found["server.host"]["source"] == "file"
    assert "server.workers" not in found

    table = CliRunner().invoke(main, ["config", "--config", str(path)], env=environ).stdout
    assert "environment CAPIO_SERVER__PORT" in table
    assert "server.workers" in table


def test_check_config_reports_a_wrong_override_with_its_variable(tmp_path: Path) -> None:
    """With exit code 2, as errors of the file."""
    path = tmp_path / "capio.toml"
    path.write_text(SHORTEST, "utf-8")

    result = CliRunner().invoke(
        main, ["check-config", "--config", str(path)], env={"CAPIO_SERVER__PORT": "x"}
    )

    assert result.exit_code == 2
    assert 'CAPIO_SERVER__PORT: server.port: "x" is not a whole number' in result.stderr
