"""The benchmark's locust users against the running gateway."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import BOTH_MODEL, Service

pytestmark = pytest.mark.process

LOCUSTFILE = Path(__file__).resolve().parents[2] / "bench" / "locustfile.py"


def run(
    gateway: Service, folder: Path, *options: str, **environment: str
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, str]]]:
    """Run headless with keys of its own; return the process and the rows of its table."""
    key = gateway.new_account_key("load")
    command = [
        *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", gateway.url),
        *("--headless", "--csv", str(folder / "run"), "--only-summary", *options),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "CAPIO_API_KEY": key.raw, "CAPIO_MODEL": BOTH_MODEL, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    with (folder / "run_stats.csv").open() as table:
        return done, list(csv.DictReader(table))


@pytest.mark.timeout(90)
def test_locust_users_of_both_dialects_meet_no_failure(gateway: Service, tmp_path: Path) -> None:
    """Two processes report each kind of call, streams with their times, and the bill agrees."""
    done, rows = run(
        gateway, tmp_path, "-u", "6", "-r", "6", "-t", "4s", "--processes", "2",
        CAPIO_MAX_TOKENS="20", CAPIO_PROMPT_PREFIX="/tokens 20\n",
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "calls whole" in done.stdout
    lines = {(row["Type"], row["Name"]) for row in rows}
    for path in ("/v1/chat/completions", "/v1/messages"):
        assert ("POST", f"{path} short") in lines
        for kind in ("stream", "long"):
            found = {each for each, name in lines if name == f"{path} {kind}"}
            assert found == {"POST", "TTFT", "ITL", "TPS"}
    assert {row["Failure Count"] for row in rows} == {"0"}


@pytest.mark.timeout(90)
@pytest.mark.parametrize("fault", ["cut", "garbage"])
def test_broken_streams_count_as_failures(gateway: Service, tmp_path: Path, fault: str) -> None:
    """Whatever way streams break, all are failures in few groups: exit code 1."""
    done, rows = run(
        gateway, tmp_path, "-t", "3s", "--tags", "stream",
        CAPIO_STEPS="8:2", CAPIO_PROMPT_PREFIX=f"/fault {fault} after=3\n",
    )  # fmt: skip

    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED: " in done.stdout
    assert "Traceback" not in done.stderr
    posts = [row for row in rows if row["Type"] == "POST"]
    assert posts
    assert all(row["Failure Count"] == row["Request Count"] for row in posts)
    with (tmp_path / "run_failures.csv").open() as table:
        failures = list(csv.DictReader(table))
    assert len(failures) <= 4
    assert not any("req_" in row["Error"] for row in failures)
