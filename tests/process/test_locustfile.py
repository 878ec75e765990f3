"""The benchmark's locust users against the running gateway."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import BOTH_MODEL, Key, Service

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(90)
def test_locust_users_of_both_dialects_meet_no_failure(
    gateway: Service, key: Key, tmp_path: Path
) -> None:
    """Each dialect and each kind of call is reported, streams with first token and gaps."""
    command = [
        *(sys.executable, "-m", "locust", "-f", str(ROOT / "bench" / "locustfile.py")),
        *("--host", gateway.url, "--headless", "--users", "6", "--spawn-rate", "6"),
        *("--run-time", "4s", "--csv", str(tmp_path / "run"), "--only-summary"),
    ]
    environment = {"CAPIO_API_KEY": key.raw, "CAPIO_MODEL": BOTH_MODEL, "CAPIO_MAX_TOKENS": "20"}

    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "run_stats.csv").open() as table:
        lines = {(row["Type"], row["Name"]): row for row in csv.DictReader(table)}
    for path in ("/v1/chat/completions", "/v1/messages"):
        assert ("POST", f"{path} short") in lines
        assert {kind for kind, name in lines if name == f"{path} stream"} == {"POST", "TTFT", "ITL"}
        assert {kind for kind, name in lines if name == f"{path} long"} == {"POST", "TTFT", "ITL"}
    assert {row["Failure Count"] for row in lines.values()} == {"0"}
