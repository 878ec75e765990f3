"""What `capio status` reads from the metrics, and what it says without a gateway."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.config import SHORTEST
from gateway.cli.diagnosis.status import read_figures

PAGE = """\
# HELP gateway_in_flight_calls Calls.
# TYPE gateway_in_flight_calls gauge
gateway_in_flight_calls 3.0
# HELP gateway_ledger_lag_seconds Age.
# TYPE gateway_ledger_lag_seconds gauge
gateway_ledger_lag_seconds 0.25
# HELP gateway_deployment_state State.
# TYPE gateway_deployment_state gauge
gateway_deployment_state{deployment="one/m"} 4.0
gateway_deployment_state{deployment="two/m"} 0.0
"""


def test_figures_are_read_by_name() -> None:
    """A metric that no process has set yet is None, not 0."""
    figures = read_figures(PAGE)

    assert figures.values == {
        "in_flight_calls": 3.0,
        "ledger_lag_s": 0.25,
        "ledger_events": None,
        "spilled_bytes": None,
        "without_redis": None,
    }
    assert figures.deployments == {"one/m": "out", "two/m": "ready"}


def test_without_a_gateway_it_says_so(tmp_path: Path) -> None:
    """With exit code 1."""
    path = tmp_path / "capio.toml"
    path.write_text(f'{SHORTEST}\n[server]\ndata_dir = "{tmp_path}/data"\n', "utf-8")

    result = CliRunner().invoke(main, ["status", "--config", str(path)])

    assert result.exit_code == 1
    assert "No gateway of this configuration runs" in result.stderr
